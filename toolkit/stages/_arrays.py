"""Read a user's arrays without running anything in the file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.core.errors import IntegrityError, UsageError

if TYPE_CHECKING:
    import numpy as np


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read an `.npz` file of plain arrays.

    Raises:
        UsageError: There is no such file.
        IntegrityError: It is damaged, or holds Python objects.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise UsageError(
            "there is no such file", where=str(path), next_step="check --inputs"
        ) from error
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise IntegrityError(
            f"the arrays cannot be read: {error}",
            where=str(path),
            next_step="write them with numpy.savez(path, name=array)",
        ) from error
