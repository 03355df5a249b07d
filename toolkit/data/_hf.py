"""Pictures of a Hugging Face data set, by the package `datasets`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from toolkit.core.errors import UsageError
from toolkit.core.protocols import Data
from toolkit.core.require import require
from toolkit.data._pictures import Options, Part, as_data, labels, stacked

SAVED = ("dataset_dict.json", "state.json")
TEST_SPLITS = ("test", "validation", "valid", "val")


def dataset(
    place: str, *, config: str = "", image: str = "", label: str = "", **options: Any
) -> Data:
    """Load the pictures of `owner/name`, or of a local folder of the same formats.

    The split `train` is trained on; `test`, else `validation`, is held out, else a share of the
    former is.

    Arguments:
        place: `owner/name` on the hub, a folder of parquet files, or one that `save_to_disk` wrote.
        config: Configuration of the data set, where it has several.
        image: Column of the pictures; empty takes the first column of pictures.
        label: Column of the classes; empty takes the first column of classes, if any.
        options: Those of `Options`: size, grey, dequantize, draws, test, limit,
            seed.

    Raises:
        MissingError: The package is not installed.
        UsageError: There is no such data set, split or column.
        IntegrityError: A picture cannot be read.
    """
    datasets, chosen = require("datasets", extra="hf"), Options(**options)
    splits = _load(datasets, place, config)
    if "train" not in splits:
        raise UsageError(
            "there is no split 'train'", where=place, next_step=f"it has {', '.join(splits)}"
        )
    held_out = next((name for name in TEST_SPLITS if name in splits), None)
    columns = _columns(splits["train"].features, image, label, place)
    train = _part(splits["train"], columns, chosen, place)
    test = None if held_out is None else _part(splits[held_out], columns, chosen, place)
    return as_data(train, test, chosen)


def _load(datasets: Any, place: str, config: str) -> dict[str, Any]:
    folder = Path(place).expanduser()
    try:
        if any((folder / name).is_file() for name in SAVED):
            found = datasets.load_from_disk(str(folder))
        else:
            found = datasets.load_dataset(place, config or None)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"the data set cannot be loaded: {type(error).__name__}: {str(error)[:300]}",
            where=f"hf:{place}",
            next_step="correct its name or config, or go online",
        ) from error
    return dict(found) if isinstance(found, dict) else {"train": found}


def _columns(features: Any, image: str, label: str, place: str) -> tuple[str, str]:
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    for wanted in (image, label):
        if wanted and wanted not in kinds:
            raise UsageError(
                f"there is no column {wanted!r}",
                where=f"hf:{place}",
                next_step=f"it has {', '.join(kinds)}",
            )
    pictures = image or next((name for name, kind in kinds.items() if kind == "Image"), "")
    if not pictures:
        raise UsageError(
            "there is no column of pictures",
            where=f"hf:{place}",
            next_step=f"name a data set of pictures; it has {', '.join(kinds)}",
        )
    classes = (name for name, kind in kinds.items() if kind == "ClassLabel")
    return pictures, label or next(classes, "")


def _part(split: Any, columns: tuple[str, str], options: Options, place: str) -> Part:
    image, label = columns
    levels = stacked((row[image] for row in split), options, where=f"hf:{place}")
    return Part(levels, labels(split[label]) if label else None)
