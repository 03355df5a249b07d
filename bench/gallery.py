"""Copy finished runs into the gallery: `python bench/gallery.py [RECIPE …]`.

The gallery holds what the real pipeline made (bundle, report, sample grid), so that old bundles
stay readable: a test loads every one of them.
"""

from __future__ import annotations

import argparse
import shutil
import sys

from toolkit.core.errors import ToolkitError, UsageError
from toolkit.core.folder import EXPORTED, RunFolder
from toolkit.core.recipe import load_recipe
from toolkit.stages._model import load_data
from toolkit.stages.sample import draw, save

GALLERY = EXPORTED / "gallery"
LARGEST = 5_000_000
SHOWN = ["glow", "pixelcnn", "realnvp"]


def main() -> int:
    """Copy the runs and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recipes", nargs="*", default=SHOWN)
    try:
        for name in parser.parse_args().recipes:
            copy_run(RunFolder.find(name))
        total = sum(path.stat().st_size for path in GALLERY.rglob("*") if path.is_file())
        if total > LARGEST:
            raise UsageError(
                f"the gallery holds {total:,} bytes", next_step=f"keep it under {LARGEST:,}"
            )
    except ToolkitError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{GALLERY}: {total:,} bytes")
    return 0


def copy_run(folder: RunFolder) -> None:
    """Copy one run's bundle and report, and draw its sample grid."""
    place = GALLERY / folder.name
    place.mkdir(parents=True, exist_ok=True)
    for name in ("bundle.zip", "report.html"):
        shutil.copyfile(folder.path / name, place / name)
    if "sample" in folder.stage("export")["entries"]:
        recipe = load_recipe(folder.path / "recipe.toml")
        save(draw(folder, count=64), place / "samples.png", data=load_data(recipe))


if __name__ == "__main__":
    sys.exit(main())
