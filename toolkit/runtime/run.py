"""Test, describe or run this bundle: `python run.py selftest`; needs numpy and onnxruntime."""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    """Run a command on the bundle that this file lies in, and return the exit code."""
    root = Path(__file__).resolve().parent
    # A cache folder in the bundle would be a file that its manifest does not list.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(root))
    try:
        from toolkit.runtime.command import main as command
    except ImportError as error:
        sys.stderr.write(f"error: {error}\n  next:  pip install numpy onnxruntime\n")
        return 4
    return command(root)


if __name__ == "__main__":
    sys.exit(main())
