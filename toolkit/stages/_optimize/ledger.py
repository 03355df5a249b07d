"""The ledger: what every rewrite did, what it cost and gained, and whether it was kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from toolkit.core.errors import UsageError
from toolkit.core.files import write_json
from toolkit.core.folder import RunFolder


@dataclass(frozen=True, slots=True)
class Row:
    """One rewrite of one entry, or one variant made of it.

    Arguments:
        entry: Name of the entry.
        variant: Name of the variant that was rewritten or made.
        name: Name of the pass (`pass` in JSON).
        count: How many places it rewrote.
        operators: Change in the number of nodes by operator.
        nodes: Number of nodes before and after.
        bytes: Size of the file before and after.
        error: Error against the oracle; `None` where nothing was run.
        limit: The error's limit.
        unit: Unit of both.
        ratio: How many times faster it is; `None` where nothing was timed.
        interval: 95 % interval of the ratio.
        band: Noise band of the same rounds: how far a graph seems to differ from itself.
        kept: Whether it stayed.
        reason: Why.
    """

    entry: str
    variant: str
    name: str
    count: int
    operators: dict[str, int]
    nodes: tuple[int, int]
    bytes: tuple[int, int]
    error: float | None = None
    limit: float | None = None
    unit: str = ""
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    band: float | None = None
    kept: bool = False
    reason: str = ""

    def decided_as(self, other: Row) -> Row:
        """Return this row with the measurements and the verdict of another."""
        return replace(
            self,
            ratio=other.ratio,
            interval=other.interval,
            band=other.band,
            kept=other.kept,
            reason=other.reason,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        table = asdict(self)
        table["pass"] = table.pop("name")
        return table

    @classmethod
    def from_dict(cls, table: dict[str, Any]) -> Row:
        """Read what `as_dict` wrote."""
        renamed = {("name" if key == "pass" else key): value for key, value in table.items()}
        return cls(**{item.name: renamed[item.name] for item in fields(cls)})


@dataclass(frozen=True, slots=True)
class Ledger:
    """All rows of a run.

    Arguments:
        rows: In the order in which the rewrites were tried.
        inputs: Per entry the SHA-256 of the exported graph that the rows speak of.
    """

    rows: Sequence[Row] = ()
    inputs: dict[str, str] = field(default_factory=dict)

    def verdict(self, entry: str, sha256: str, variant: str, name: str) -> Row | None:
        """Return the row that was recorded for the same exported graph."""
        if self.inputs.get(entry) != sha256:
            return None
        same = [r for r in self.rows if (r.entry, r.variant, r.name) == (entry, variant, name)]
        return same[0] if same else None

    def save(self, path: Path) -> None:
        """Write the ledger as JSON."""
        write_json(path, {"rows": [row.as_dict() for row in self.rows], "inputs": self.inputs})

    @classmethod
    def load(cls, folder: RunFolder) -> Ledger:
        """Read the ledger of a run.

        Raises:
            UsageError: There is none, or it cannot be read.
        """
        path = ledger_path(folder)
        try:
            table = json.loads(path.read_text())
            return cls([Row.from_dict(row) for row in table["rows"]], dict(table["inputs"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"the ledger cannot be read: {error}",
                where=str(path),
                next_step=f"toolkit optimize {folder.path}",
            ) from error


def ledger_path(folder: RunFolder) -> Path:
    """Return where a run's ledger lies."""
    return folder.path / "ledger.json"


def difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """Return the change in the number of nodes by operator, without the unchanged ones."""
    change = Counter(after)
    change.subtract(before)
    return {operator: count for operator, count in sorted(change.items()) if count}
