"""Verify: every check on every variant and backend, from the run folder alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.backends._tensorrt_build import device_capability
from toolkit.core import registry
from toolkit.core.case import Case, load_cases
from toolkit.core.errors import ToolkitError, UsageError
from toolkit.core.files import write_json
from toolkit.core.folder import RunFolder
from toolkit.core.outcome import Finding, Outcome
from toolkit.core.protocols import Progress, Subject, silent
from toolkit.core.recipe import Recipe
from toolkit.core.signature import Signature
from toolkit.stages._open import opened, require_backend

if TYPE_CHECKING:
    from toolkit.core.protocols import Run

AFTER = ("export", "optimize", "build")
SECTIONS = ("verify", "optimize", "build", "device", "providers")
SOURCES = (
    "core",
    "backends",
    "capture/causal/choice.py",
    "capture/causal/network.py",
    "capture/module.py",
    "capture/oracle.py",
    "capture/preserve.py",
    "capture/replace.py",
    "checks",
    "runtime",
    "stages/_entries.py",
    "stages/_model.py",
    "stages/_open.py",
)
PACKAGES = (
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
)
MEASURES = False

FINDINGS = "verify/findings.json"


@dataclass(frozen=True, slots=True)
class Variant:
    """One file to verify.

    Arguments:
        name: `exported`, `fp32`, `fp16`, `int8`, or an engine's stem.
        file: Path relative to the run folder.
        precision: Precision whose budget it has.
        kept: Per backend whether the variant is shipped, and why not.
        engine: The backend that built it and alone can run it; empty for graphs.
        target: Compute capability that an engine is for.
    """

    name: str
    file: str
    precision: str
    kept: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    engine: str = ""
    target: str = ""


def run(recipe: Recipe, folder: RunFolder, *, progress: Progress = silent) -> Outcome:
    """Judge every variant of every entry and write the findings."""
    require_backend(recipe, recipe.verify.backends)
    findings = []
    for finding in judge_all(recipe, folder):
        progress(f"{finding.entry} {finding.variant}: {finding.check}")
        findings.append(finding)
    write_json(folder.path / FINDINGS, {"findings": [item.as_dict() for item in findings]})
    counts = {
        status: sum(item.status == status for item in findings)
        for status in ("ok", "failed", "skipped")
    }
    failed = [
        f"{item.check} of {item.entry} {item.variant} on {item.backend}: {item.reason}"
        for item in findings
        if item.status == "failed"
    ]
    return Outcome(
        "failed" if failed or not counts["ok"] else "ok",
        "; ".join(failed) or ("" if counts["ok"] else "nothing was verified"),
        {"files": [FINDINGS], **counts},
    )


def judge_all(
    recipe: Recipe, folder: RunFolder, *, cases: Mapping[str, Sequence[Case]] | None = None
) -> Iterator[Finding]:
    """Yield the findings of every entry, variant and backend.

    Arguments:
        recipe: Checks, backends and limits.
        folder: A run folder with at least the export stage.
        cases: Per entry the cases to use instead of the golden ones.
    """
    checks = _checks(recipe)
    for entry, detail in folder.stage("export")["entries"].items():
        signature = Signature.from_dict(detail["signature"])
        given = load_cases(folder.golden(entry))
        chosen = list(cases[entry]) if cases and entry in cases else given
        for variant in variants_of(folder, entry):
            for backend in [variant.engine] if variant.engine else recipe.verify.backends:
                yield from _judge(recipe, folder, signature, variant, backend, chosen, checks)


def variants_of(folder: RunFolder, entry: str) -> list[Variant]:
    """Return every file that the earlier stages made of an entry."""
    exported = folder.stage("export")["entries"][entry]["file"]
    return [
        Variant("exported", exported, "exported"),
        *(
            Variant(name, row["file"], name, row["kept"])
            for name, row in folder.variants(entry).items()
        ),
        *(
            Variant(
                Path(row["file"]).stem,
                row["file"],
                row["precision"],
                engine=row["engine"],
                target=row["target"],
            )
            for row in folder.engines(entry)
        ),
    ]


def _checks(recipe: Recipe) -> dict[str, Any]:
    names = recipe.verify.checks or registry.checks.names()
    return {name: registry.checks.load(name) for name in names}


def _judge(
    recipe: Recipe,
    folder: RunFolder,
    signature: Signature,
    variant: Variant,
    backend: str,
    cases: Sequence[Case],
    checks: Mapping[str, Any],
) -> Iterator[Finding]:
    reason = _reason_to_skip(recipe, variant, backend)
    if reason:
        yield Finding("parity", signature.entry, variant.name, backend, "skipped", reason=reason)
        return
    with contextlib.ExitStack() as stack:
        try:
            subject = _subject(recipe, folder, signature, variant, backend, cases, stack)
        except ToolkitError as error:
            yield Finding(
                "parity", signature.entry, variant.name, backend, "failed", reason=str(error)
            )
            return
        for name, check in checks.items():
            if (finding := _ask(name, check, subject)) is not None:
                yield finding


def _ask(name: str, check: Any, subject: Subject) -> Finding | None:
    """Return the check's finding; a variant that cannot run has failed it."""
    try:
        finding: Finding | None = check.judge(subject)
    except Exception as error:  # noqa: BLE001  (a runtime may raise anything)
        return Finding(
            name,
            subject.signature.entry,
            subject.variant,
            subject.backend,
            "failed",
            reason=f"did not run: {type(error).__name__}: {str(error)[:300]}",
        )
    return finding


def _reason_to_skip(recipe: Recipe, variant: Variant, backend: str) -> str:
    found = registry.backends.load(backend)
    if not variant.engine and "onnx" not in found.formats:
        return f"{backend} does not run .onnx files"
    absent: str = found.absent(device=recipe.device, providers=recipe.providers)
    if absent:
        return absent
    if variant.target and variant.target != (here := device_capability(recipe.device)):
        return f"built for compute capability {variant.target}, the GPU here has {here}"
    kept = variant.kept.get(backend)
    return "" if kept is None or kept["kept"] else f"kept out: {kept['reason']}"


def _subject(
    recipe: Recipe,
    folder: RunFolder,
    signature: Signature,
    variant: Variant,
    backend: str,
    cases: Sequence[Case],
    stack: contextlib.ExitStack,
) -> Subject:
    def open_file(path: Path, spec: Signature) -> Run:
        return stack.enter_context(
            opened(
                path,
                spec,
                variant=variant.name,
                backend=backend,
                device=recipe.device,
                providers=recipe.providers,
                most=_largest_batch(recipe, spec) if variant.engine else 0,
            )
        )

    def sibling(name: str) -> Run | None:
        entries = folder.stage("export")["entries"]
        path = folder.entry(name) / Path(variant.file).name
        if name not in entries or not path.is_file():
            return None
        return open_file(path, Signature.from_dict(entries[name]["signature"]))

    path = folder.path / variant.file
    return Subject(
        signature=signature,
        variant=variant.name,
        backend=backend,
        path=path,
        run=open_file(path, signature),
        cases=cases,
        sibling=sibling,
        budget=recipe.budget_of(variant.precision),
        k=recipe.verify.k,
    )


def _largest_batch(recipe: Recipe, signature: Signature) -> int:
    """Return the largest batch that an engine was built for; 0 where it has no such dimension."""
    ranges = {**signature.ranges, **recipe.build.shapes}
    return ranges["batch"][2] if "batch" in signature.ranges else 0


def verify(
    folder: str | Path,
    *,
    backends: Sequence[str] = ("onnxruntime",),
    model: Any = None,
    inputs: Mapping[str, Any] | None = None,
    k: float = 4.0,
) -> list[Finding]:
    """Verify a run folder; the Python form of `toolkit verify`.

    Arguments:
        folder: A run folder.
        backends: Where the variants run.
        model: The eager model: only needed for new inputs.
        inputs: New inputs by name; every entry that takes just these is judged on them.
        k: Factor on eager's own error.

    Raises:
        UsageError: There is no such run, or new inputs come without the model.
    """
    from toolkit.core.recipe import load_recipe

    run_folder = RunFolder.find(folder)
    recipe = load_recipe(run_folder.path / "recipe.toml")
    section = recipe.verify.model_copy(update={"backends": list(backends), "k": k})
    recipe = recipe.model_copy(update={"verify": section})
    cases = None
    if inputs is not None:
        if model is None:
            raise UsageError(
                "new inputs need the model: the run folder holds answers for its own inputs only",
                next_step="verify(folder, model=model, inputs=...)",
            )
        cases = cases_for(recipe, run_folder, model, inputs)
    return list(judge_all(recipe, run_folder, cases=cases))


def cases_for(
    recipe: Recipe, folder: RunFolder, model: Any, inputs: Mapping[str, Any]
) -> dict[str, list[Case]]:
    """Return, for every entry that takes these inputs, one case answered by the model.

    Raises:
        UsageError: No entry takes these inputs.
    """
    import torch

    from toolkit.capture.oracle import Oracle
    from toolkit.capture.preserve import preserved
    from toolkit.stages._entries import entries_of
    from toolkit.stages._model import on_processor

    cases = {}
    with preserved(on_processor(model)) as model:
        for entry in entries_of(model, recipe):
            detail = folder.stage("export")["entries"].get(entry.name)
            if detail is None or {item.name for item in entry.inputs} != set(inputs):
                continue
            names = [spec["name"] for spec in detail["signature"]["outputs"]]
            tensors = {name: torch.as_tensor(value).cpu() for name, value in inputs.items()}
            cases[entry.name] = [Oracle(model, entry, names).answer("parity", "real", tensors)]
    if not cases:
        raise UsageError(
            f"no entry takes exactly the inputs {', '.join(inputs)}",
            where=", ".join(folder.stage("export")["entries"]),
            next_step="name the arrays like the entry's inputs: toolkit inspect RUN",
        )
    return cases
