"""A bundle on disk: opened against its manifest, every byte checked before it is used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from toolkit.runtime.container import Container, open_container
from toolkit.runtime.manifest import NAME, parse, render
from toolkit.runtime.records import Manifest, Variant
from toolkit.runtime.strict import MAX_JSON, refusal
from toolkit.runtime.tensors import Arrays, parse_tensors

MAX_GOLDEN = 1 << 30


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle.

    Arguments:
        container: The folder or zip.
        manifest: Its manifest.
    """

    container: Container
    manifest: Manifest

    def check(self) -> int:
        """Check every file's checksum and return how many there are.

        Raises:
            IntegrityError: A file was altered; it is named.
        """
        for name in self.manifest.files:
            for _ in self._verified(name):
                pass
        return len(self.manifest.files)

    def tensors(self, name: str) -> Arrays:
        """Read a safetensors file, checksum first."""
        if self.manifest.files[name].size > MAX_GOLDEN:
            raise refusal(f"{name} is larger than {MAX_GOLDEN} bytes", self.container.where)
        data = b"".join(self._verified(name))
        return parse_tensors(data, where=f"{self.container.where}: {name}")

    def unpack(self, folder: Path) -> None:
        """Write every file, verified, into an empty folder."""
        for name in self.manifest.files:
            self._copy(name, folder)
        (folder / NAME).write_bytes(render(self.manifest.table))

    @contextmanager
    def graph(self, variant: Variant) -> Iterator[Path]:
        """Yield a private, verified copy of a graph: what was checked is what gets loaded."""
        with TemporaryDirectory(prefix="toolkit-") as private:
            for name in (variant.file, *variant.data):
                self._copy(name, Path(private))
            yield Path(private, variant.file)

    def _copy(self, name: str, folder: Path) -> None:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as stream:
            stream.writelines(self._verified(name))

    def _verified(self, name: str) -> Iterator[bytes]:
        record = self.manifest.files[name]
        digest, size = hashlib.sha256(), 0
        for chunk in self.container.chunks(name):
            size += len(chunk)
            if size > record.size:
                break
            digest.update(chunk)
            yield chunk
        if size != record.size or digest.hexdigest() != record.sha256:
            raise refusal(
                f"{name} was altered: its checksum is not the manifest's", self.container.where
            )


def open_bundle(path: Path) -> Bundle:
    """Open a bundle: its list of files must be the manifest's, no more and no less.

    Raises:
        UsageError: There is no bundle at the path.
        IntegrityError: The bundle is damaged or hostile.
    """
    container = open_container(path)
    sizes = container.sizes()
    if sizes.get(NAME, MAX_JSON + 1) > MAX_JSON:
        raise refusal(
            f"there is no {NAME} here, or it is larger than {MAX_JSON} bytes",
            container.where,
            "give a bundle.zip or its unpacked folder",
        )
    where = f"{container.where}: {NAME}"
    manifest = parse(b"".join(container.chunks(NAME)), where=where)
    listed = {name: record.size for name, record in manifest.files.items()}
    present = {name: size for name, size in sizes.items() if name != NAME}
    _compare(listed, present, container.where)
    return Bundle(container, manifest)


def _compare(listed: dict[str, int], present: dict[str, int], where: str) -> None:
    for name in sorted(set(listed) - set(present)):
        raise refusal(f"{name} is missing, though the manifest lists it", where)
    for name in sorted(set(present) - set(listed)):
        raise refusal(
            f"{name} is extra: the manifest does not list it",
            where,
            "delete that file, or unpack the bundle anew",
        )
    for name, size in sorted(listed.items()):
        if present[name] != size:
            raise refusal(f"{name} was altered: it has {present[name]} bytes, not {size}", where)
