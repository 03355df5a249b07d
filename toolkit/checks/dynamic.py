"""Is every requested dynamic dimension still dynamic in the file?"""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.checks._judge import finding
from toolkit.core.case import Case
from toolkit.core.outcome import Finding
from toolkit.core.protocols import Source, Subject


class Dynamic:
    """Read the file's own input shapes and hold them against the signature."""

    def prepare(self, source: Source) -> Sequence[Case]:  # noqa: ARG002
        """Make no cases: the file is enough."""
        return []

    def judge(self, subject: Subject) -> Finding:
        """Answer with the number of dimensions that turned static."""
        import onnx

        if subject.path.suffix != ".onnx":
            return finding("dynamic", subject, "skipped", reason="not an ONNX file")
        graph = onnx.load(subject.path, load_external_data=False).graph
        sizes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in graph.input
        }
        wanted = [
            (spec.name, axis, dim)
            for spec in subject.signature.inputs
            for axis, dim in enumerate(spec.dims)
            if isinstance(dim, str)
        ]
        static = [
            f"{dim!r} of {name!r} is {sizes[name][axis]}"
            for name, axis, dim in wanted
            if sizes[name][axis]
        ]
        return finding(
            "dynamic",
            subject,
            "failed" if static else "ok",
            value=float(len(static)),
            limit=0.0,
            unit="dimensions",
            reason="turned static: " + ", ".join(static)
            if static
            else "dynamic: "
            + (", ".join(sorted({dim for _, _, dim in wanted})) or "none asked for"),
        )


check = Dynamic()
