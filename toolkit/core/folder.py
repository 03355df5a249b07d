"""The run folder: where every stage leaves its files, with the manifest that records them."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.core.errors import UsageError
from toolkit.core.files import write_json

SCHEMA = 1
EXPORTED = Path("exported")
GOLDEN = "golden.safetensors"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder such as `exported/glow`.

    Arguments:
        path: The folder; it need not exist yet.
    """

    path: Path

    @classmethod
    def find(cls, run: str | Path) -> RunFolder:
        """Return the folder of a path, or of a recipe's name under `exported/`.

        Raises:
            UsageError: There is no such run.
        """
        for path in (Path(run), EXPORTED / run):
            if (path / "manifest.json").is_file():
                return cls(path)
        raise UsageError(
            f"there is no run {str(run)!r}",
            where=f"{run} and {EXPORTED / run} hold no manifest.json",
            next_step=f"make it: toolkit run {run}",
        )

    @property
    def name(self) -> str:
        """Name of the run: the folder's own name."""
        return self.path.resolve().name

    @property
    def manifest_path(self) -> Path:
        """Path of `manifest.json`."""
        return self.path / "manifest.json"

    def entry(self, name: str) -> Path:
        """Return the folder of one entry."""
        return self.path / "entries" / name

    def golden(self, entry: str) -> Path:
        """Return the file of an entry's golden cases."""
        return self.entry(entry) / GOLDEN

    def manifest(self) -> dict[str, Any]:
        """Read the manifest; an empty one where there is none.

        Raises:
            UsageError: The file is not a manifest of this schema.
        """
        if not self.manifest_path.exists():
            return {"schema": SCHEMA, "name": self.name, "stages": {}}
        try:
            manifest = json.loads(self.manifest_path.read_text())
        except ValueError as error:
            raise UsageError(
                f"the manifest is not JSON: {error}",
                where=str(self.manifest_path),
                next_step="delete the run folder and run again",
            ) from error
        if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
            raise UsageError(
                "the manifest has another schema than this toolkit writes",
                where=str(self.manifest_path),
                next_step=f"run again with this toolkit (schema {SCHEMA})",
            )
        return manifest

    def stage(self, name: str) -> dict[str, Any]:
        """Return what a finished stage recorded as its result.

        Raises:
            UsageError: The stage has not run.
        """
        record = self.manifest()["stages"].get(name)
        if record is None:
            raise UsageError(
                f"the stage {name!r} has not run",
                where=str(self.path),
                next_step=f"toolkit {name} {self.path}",
            )
        result: dict[str, Any] = record["result"]
        return result

    def has_stage(self, name: str) -> bool:
        """Return whether a stage has finished here."""
        return name in self.manifest()["stages"]

    def variants(self, entry: str) -> dict[str, dict[str, Any]]:
        """Return what optimize recorded of an entry's variants; none where it has not run."""
        if not self.has_stage("optimize"):
            return {}
        found: dict[str, Any] = self.stage("optimize")["entries"].get(entry, {})
        variants: dict[str, dict[str, Any]] = found.get("variants", {})
        return variants

    def engines(self, entry: str) -> list[dict[str, Any]]:
        """Return the engines of an entry that were built; none where build has not run."""
        rows = self.stage("build")["engines"] if self.has_stage("build") else []
        return [row for row in rows if row["entry"] == entry and row["status"] == "ok"]

    def record(self, stage: str, record: dict[str, Any]) -> None:
        """Write one stage's record into the manifest."""
        manifest = self.manifest()
        manifest["stages"][stage] = record
        write_json(self.manifest_path, manifest)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one writer.

        Raises:
            UsageError: Another process writes this run, or the folder cannot be written.
        """
        lock = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            stream = lock.open("w")
        except OSError as error:
            raise UsageError(
                f"cannot write the run folder: {error.strerror}",
                where=str(self.path),
                next_step="choose a folder you may write to (-o), or mend its permissions",
            ) from error
        with stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(
                    "another process is writing this run",
                    where=str(self.path),
                    next_step="wait for it, or give this run another folder (-o)",
                ) from error
            yield
