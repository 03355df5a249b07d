"""Read the header of a TensorRT-RTX plan: which compute capabilities it was built for.

NVIDIA does not document the layout; it was observed on TensorRT-RTX 1.7: magic `vtrt` at 0 and 28,
four version bytes at 24, a bit mask of compute capabilities at 32. A plan of another layout has
unknown targets and is not judged.
"""

from __future__ import annotations

import struct

from toolkit.core.errors import ExportError

MAGIC = b"vtrt"
BITS = {0x01: "7.5", 0x02: "8.0", 0x04: "8.6", 0x08: "8.9", 0x10: "12.0", 0x20: "12.1"}


def plan_targets(plan: bytes) -> list[str] | None:
    """Return the compute capabilities in a plan's header; `None` where the layout is unknown."""
    if len(plan) < 36 or plan[:4] != MAGIC or plan[28:32] != MAGIC:
        return None
    (mask,) = struct.unpack_from("<I", plan, 32)
    known = [target for bit, target in BITS.items() if mask & bit]
    unknown = mask & ~sum(BITS)
    return [*known, *([f"bits {unknown:#x}"] if unknown else [])]


def check_target(plan: bytes, target: str, *, where: str) -> None:
    """Compare a plan's header with the target that was asked for.

    Raises:
        ExportError: The plan was built for something else.
    """
    found = plan_targets(plan)
    if found is not None and found != [target]:
        raise ExportError(
            f"the plan is for {', '.join(found) or 'no target'}, not for {target}",
            where=where,
            next_step="build it again; if it stays so, report the TensorRT-RTX version",
        )
