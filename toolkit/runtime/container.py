"""Where a bundle's files lie: a folder or a zip, listed and opened without trusting either."""

from __future__ import annotations

import os
import stat
import unicodedata
import weakref
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from toolkit.core.errors import UsageError
from toolkit.runtime.strict import refusal, safe_path, shown

MAX_FILES = 4096
MAX_BYTES = 64 << 30
MAX_RATIO = 100
CHUNK = 1 << 20
_RATIO_FLOOR = 16 << 20
_MAX_DIRECTORY = MAX_FILES * 512
_END, _END_SIZE = b"PK\x05\x06", 22
_LOCATOR, _LOCATOR_SIZE = b"PK\x06\x07", 20


class Container(Protocol):
    """The files of one bundle."""

    where: str

    def sizes(self) -> dict[str, int]:
        """Return every file's path inside the bundle and its size in bytes."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield one file's bytes in pieces; the caller checks them."""


def open_container(path: Path) -> Container:
    """Return the container at a path.

    Raises:
        UsageError: There is nothing to read there.
        IntegrityError: The file is no zip that a bundle may be.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UsageError(
            f"there is no bundle here: {error.strerror}",
            where=str(path),
            next_step="check the path",
        ) from error
    if stat.S_ISDIR(mode):
        return FolderContainer(path)
    if stat.S_ISREG(mode):
        return ZipContainer(path)
    raise UsageError(
        "neither a folder nor a file", where=str(path), next_step="give a bundle.zip or a folder"
    )


class FolderContainer:
    """An unpacked bundle."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.where = str(root)

    def sizes(self) -> dict[str, int]:
        """Return every file's path and size; links and special files are refused."""
        found: dict[str, int] = {}
        for entry in _walk(self.root):
            name = Path(entry.path).relative_to(self.root).as_posix()
            if not entry.is_file(follow_symlinks=False):
                raise refusal(f"{shown(name)} is a link or a special file", self.where)
            if len(found) >= MAX_FILES:
                raise refusal(f"the bundle holds more than {MAX_FILES} files", self.where)
            found[name] = entry.stat(follow_symlinks=False).st_size
        _check_names(found, self.where)
        return found

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield one regular file's bytes, without following a link or blocking on a pipe."""
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            handle = os.open(self.root / name, flags | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise refusal(f"{name} cannot be read: {error.strerror}", self.where) from error
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise refusal(f"{name} is a link or a special file", self.where)
            yield from iter(lambda: stream.read(CHUNK), b"")


def _walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))
            else:
                yield entry


class ZipContainer:
    """A zipped bundle; nothing is extracted, members are read as streams."""

    def __init__(self, path: Path) -> None:
        self.where = str(path)
        _check_directory(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
            raise refusal(f"the zip is damaged: {shown(error)}", self.where) from error
        # A garbage collector may otherwise drop the file before the archive that would close it.
        weakref.finalize(self, self._zip.close)

    def sizes(self) -> dict[str, int]:
        """Return every member's path and declared size; links and bombs are refused."""
        if len(self._zip.infolist()) > MAX_FILES:
            raise refusal(f"the bundle holds more than {MAX_FILES} files", self.where)
        members = [member for member in self._zip.infolist() if not member.is_dir()]
        names = [member.orig_filename for member in members]
        _check_names(names, self.where)
        for member in members:
            _check_member(member, self.where)
        total = sum(member.file_size for member in members)
        packed = max(1, sum(member.compress_size for member in members))
        if total > MAX_BYTES or (total > _RATIO_FLOOR and total / packed > MAX_RATIO):
            raise refusal(f"the zip would unpack to {total} bytes from {packed}", self.where)
        return {member.orig_filename: member.file_size for member in members}

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield one member's bytes in pieces."""
        try:
            with self._zip.open(name) as stream:
                yield from iter(lambda: stream.read(CHUNK), b"")
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, KeyError) as error:
            raise refusal(f"the member {name} is damaged: {shown(error)}", self.where) from error


def _check_directory(path: Path) -> None:
    """Bound the central directory before the library reads all of it into memory."""
    where = str(path)
    hint = "give the bundle.zip as it was made"
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size < _END_SIZE:
            raise refusal("not a zip: too short", where, hint)
        stream.seek(max(0, size - _END_SIZE - _LOCATOR_SIZE))
        tail = stream.read()
    end = tail[-_END_SIZE:]
    if not end.startswith(_END) or end[-2:] != b"\0\0":
        raise refusal("not a zip, or cut off, or followed by other data", where, hint)
    wide = tail.startswith(_LOCATOR)
    record = _wide_record(path, tail) if wide else end
    count, directory = (record[32:40], record[40:48]) if wide else (record[10:12], record[12:16])
    if int.from_bytes(count, "little") > MAX_FILES:
        raise refusal(f"the zip holds more than {MAX_FILES} members", where)
    if int.from_bytes(directory, "little") > _MAX_DIRECTORY:
        raise refusal("the zip's list of members is larger than a bundle's may be", where)


def _wide_record(path: Path, tail: bytes) -> bytes:
    with path.open("rb") as stream:
        stream.seek(min(int.from_bytes(tail[8:16], "little"), stream.seek(0, os.SEEK_END)))
        return stream.read(56)


def _check_member(member: zipfile.ZipInfo, where: str) -> None:
    name = shown(member.orig_filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise refusal(f"the member {name} is a link or a special file", where)
    if member.flag_bits & 0x1:
        raise refusal(f"the member {name} is encrypted", where)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise refusal(f"the member {name} is compressed in an unknown way", where)


def _check_names(names: Iterable[str], where: str) -> None:
    seen: dict[str, str] = {}
    for name in names:
        safe_path(name, where=where)
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in seen:
            raise refusal(f"two files are called {name} and {seen[folded]}", where)
        seen[folded] = name
