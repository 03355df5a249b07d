"""One contestant: `python -m toolkit.stages._bench.worker spec.json`, JSON lines both ways."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from toolkit.core import clock
from toolkit.core.errors import ToolkitError
from toolkit.core.protocols import Artifact
from toolkit.core.registry import backends, load_attribute
from toolkit.core.signature import Signature

Requests = queue.SimpleQueue[dict[str, Any]]


def main() -> None:
    """Open the contestant, report its first result, then answer requests until input ends."""
    replies = _take_stdout()
    spec = json.loads(Path(sys.argv[1]).read_text())
    if spec["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, spec["cores"])
    requests: Requests = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    try:
        _serve(spec, requests, replies)
    except ToolkitError as error:
        _reply(replies, {"error": error.as_dict()})


def _serve(spec: dict[str, Any], requests: Requests, replies: TextIO) -> None:
    runner = _open(spec)
    call = runner.prepare(_feeds(Path(spec["feeds"])))
    call()
    _reply(replies, {"settings": getattr(runner, "settings", {})})
    while True:
        request = requests.get()
        _reply(replies, _ANSWERS[request["do"]](call, request["seconds"]))


def _warm_up(call: clock.Call, seconds: float) -> dict[str, Any]:
    return asdict(clock.warm_up(call, limit=seconds))


def _slot(call: clock.Call, seconds: float) -> dict[str, Any]:
    return asdict(clock.take_slot(call, seconds))


_ANSWERS: dict[str, Callable[[clock.Call, float], dict[str, Any]]] = {
    "warm_up": _warm_up,
    "slot": _slot,
}


def _open(spec: dict[str, Any]) -> Any:
    maker = spec["module"]
    artifact = Artifact(
        path=Path(spec["path"]),
        signature=Signature.from_dict(spec["signature"]),
        variant=spec["variant"],
        module=(lambda: load_attribute(maker["target"])(**maker["arguments"])) if maker else None,
    )
    return backends.load(spec["backend"]).open(
        artifact, threads=spec["threads"], device=spec["device"], providers=spec["providers"]
    )


def _feeds(path: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    feeds: dict[str, Any] = load_file(path)
    return feeds


def _take_stdout() -> TextIO:
    """Keep standard output for replies alone; whatever libraries print goes to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def _read(requests: Requests) -> None:
    """Pass requests on; when the parent is gone, end at once, even in the middle of a call."""
    for line in sys.stdin:
        requests.put(json.loads(line))
    os._exit(0)


def _reply(replies: TextIO, answer: dict[str, Any]) -> None:
    json.dump({**answer, "peak_memory_bytes": peak_memory()}, replies)
    replies.write("\n")
    replies.flush()


def peak_memory() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # getrusage would count the parent's memory too: Linux carries it over fork and exec.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
