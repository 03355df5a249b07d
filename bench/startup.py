"""CPU time that `toolkit --help` takes beyond bare Python: `python bench/startup.py`."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from toolkit.core import machine
from toolkit.core.files import write_json

ROUNDS = 15
OUT = Path(__file__).parent / "results" / "startup.json"
COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "toolkit --help": [sys.executable, "-m", "toolkit", "--help"],
}


def main() -> int:
    """Run both in turns, print the smallest and median CPU time of each, and save them."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS + 1):
        for name, words in COMMANDS.items():
            seconds[name].append(cpu_seconds(words))
    # The first turn fills the caches of the file system and of compiled modules.
    kept = {name: sorted(values[1:]) for name, values in seconds.items()}
    middle = {name: values[len(values) // 2] for name, values in kept.items()}
    extra = middle["toolkit --help"] - middle["python"]
    for name, values in kept.items():
        print(f"{name:<16}{values[0]:.3f} s at best, {middle[name]:.3f} s in the middle")
    print(f"beyond bare Python: {extra:.3f} s")
    write_json(OUT, {"machine": machine.describe(), "cpu_s": kept, "beyond_python_s": extra})
    return 0


def cpu_seconds(command: list[str]) -> float:
    """Return the user and system time of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)


if __name__ == "__main__":
    sys.exit(main())
