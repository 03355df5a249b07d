"""What a stage or a check answers: outcomes and findings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a stage or an export ended, with the reason where it is not `ok`."""

    status: Status
    reason: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing failed (a skip is not a failure)."""
        return self.status != "failed"

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one check about one variant on one backend.

    Arguments:
        check: Name of the check (its file in `toolkit/checks`).
        entry: Name of the entry.
        variant: Name of the variant (`exported`, `fp32`, `fp16`, …).
        backend: Name of the backend that ran it.
        status: `ok`, `failed` or `skipped`.
        value: The measured number, in `unit`.
        limit: The limit that `value` must not pass (a lower bound for `psnr` in decibels).
        unit: Unit of value and limit (`absolute`, `nats`, `accuracy`, `psnr`, `index`).
        reason: One sentence for people; the formula for a pass, the cause for a failure or skip.
        detail: Further numbers, JSON-ready.
    """

    check: str
    entry: str
    variant: str
    backend: str
    status: Status
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    reason: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)
