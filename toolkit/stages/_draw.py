"""Draw from the exported graph of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core.errors import UsageError
from toolkit.core.folder import RunFolder
from toolkit.core.registry import nearest
from toolkit.core.signature import Signature
from toolkit.stages._bench.inputs import BATCH, inputs_for
from toolkit.stages._bench.inputs import draw as draw_inputs
from toolkit.stages._open import opened

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray]

ENTRIES = ("sample", "sample.generate", "generate")
PREFERRED = ("fp32", "exported")
LARGEST_BATCH = 1024


def draw(
    folder: RunFolder, *, count: int = 16, seed: int = 0, variant: str | None = None
) -> Arrays:
    """Draw samples by running the entry that draws in ONNX Runtime.

    Noise follows the law that the signature gives it; contexts are the golden ones.

    Arguments:
        folder: A run folder with at least the export stage.
        count: How many samples.
        seed: Seed of the noise.
        variant: The variant to run; by default `fp32`, or `exported` before there is one.

    Returns:
        Every output of the entry, each with `count` samples along its batch.

    Raises:
        UsageError: The run has no `sample` entry or no such variant, or `count` is below 1.
    """
    import numpy as np

    if count < 1:
        raise UsageError(f"cannot draw {count} samples", next_step="ask for at least one: -n 16")
    entry = sample_entry(folder)
    record = folder.stage("export")["entries"][entry]
    signature = Signature.from_dict(record["signature"])
    name, path = _variant(folder, entry, variant)
    pieces: list[Arrays] = []
    missing = count
    with opened(path, signature, variant=name) as run:
        while missing > 0:
            feeds = _feeds(folder, signature, count=missing, seed=seed + len(pieces))
            pieces.append(run(feeds))
            first = signature.outputs[0]
            missing -= pieces[-1][first.name].shape[first.batch_axis]
    return {
        spec.name: spec.rows(
            np.concatenate([piece[spec.name] for piece in pieces], spec.batch_axis),
            slice(0, count),
        )
        for spec in signature.outputs
    }


def sample_entry(folder: RunFolder) -> str:
    """Return the name of the run's entry that draws samples.

    Raises:
        UsageError: There is none.
    """
    entries = folder.stage("export")["entries"]
    for name in ENTRIES:
        if name in entries:
            return name
    raise UsageError(
        f"the run {folder.name!r} has no sample entry",
        where=f"entries: {', '.join(entries) or 'none'}",
        next_step="sample a flow or an autoregressive model, or export its entry `sample`",
    )


def _variant(folder: RunFolder, entry: str, wanted: str | None) -> tuple[str, Path]:
    files = {"exported": folder.stage("export")["entries"][entry]["file"]}
    files |= {name: item["file"] for name, item in folder.variants(entry).items()}
    name = wanted or next(name for name in PREFERRED if name in files)
    if name not in files:
        raise UsageError(
            f"the entry {entry!r} has no variant {name!r}",
            where=str(folder.entry(entry)),
            next_step=nearest(name, list(files)),
        )
    return name, folder.path / files[name]


def _feeds(folder: RunFolder, signature: Signature, *, count: int, seed: int) -> Arrays:
    """Return noise, and golden values of every other input, for at most `count` samples."""
    batch = min(count, signature.ranges.get(BATCH, (1, 1, LARGEST_BATCH))[2])
    feeds = draw_inputs(signature, batch=batch, seed=seed)
    given = [spec.name for spec in signature.inputs if spec.kind != "noise"]
    if given:
        known = inputs_for(signature, folder.golden(signature.entry), batch=batch, seed=seed)
        feeds |= {name: known[name] for name in given}
    return feeds
