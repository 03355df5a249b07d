"""Test, describe or run this bundle: `python run.py selftest`; needs numpy and onnxruntime."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path


def main() -> int:
    """Run a command on the bundle that this file lies in, and return the exit code."""
    root = Path(__file__).resolve().parent
    # A cache folder in the bundle would be a file that its manifest does not list.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(root))
    altered = altered_code(root)
    if altered:
        return fail(6, f"{altered} was altered or is missing", "unpack the bundle anew")
    try:
        from toolkit.runtime.command import main as command
    except ImportError as error:
        return fail(4, str(error), "pip install numpy onnxruntime")
    return command(root)


def altered_code(root: Path) -> str:
    """Return the first file of the runner that is not as listed: damaged code cannot say so."""
    try:
        files = json.loads((root / "manifest.json").read_text())["files"]
        listed = {name: item["sha256"] for name, item in files.items() if name.endswith(".py")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # The runner itself says precisely what is wrong with a manifest.
        return ""
    for name, digest in sorted(listed.items()):
        path = root / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return str(name)
    return ""


def fail(code: int, what: str, next_step: str) -> int:
    """Say what went wrong and what to do, and return the exit code."""
    if "--json" in sys.argv:
        document = {"error": "RunnerError", "what": what, "where": "", "next": next_step}
        sys.stdout.write(json.dumps({**document, "exit_code": code}) + "\n")
    sys.stderr.write(f"error: {what}\n  next:  {next_step}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
