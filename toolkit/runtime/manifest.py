"""The one spelling of a bundle's manifest, and its strict reader."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from toolkit.core.signature import Signature
from toolkit.runtime.limits import UNITS
from toolkit.runtime.records import EntryRecord, FileRecord, Latency, Limit, Manifest, Variant
from toolkit.runtime.strict import parse_json, refusal, safe_path, shown

SCHEMA = 1
KIND = "toolkit-bundle"
NAME = "manifest.json"
FEATURES = frozenset[str]()
DTYPES = frozenset(
    f"{kind}{bits}"
    for kind, sizes in {
        "float": (16, 32, 64),
        "int": (8, 16, 32, 64),
        "uint": (8, 16, 32, 64),
    }.items()
    for bits in sizes
) | {"bool"}
_ENTRY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KINDS = frozenset({"data", "noise", "context", "token", "state", "output"})
_OPTIONAL_NUMBER = (int, float, type(None))


def render(table: Mapping[str, Any]) -> bytes:
    """Return the one spelling of a manifest: sorted, indented, closed by its own digest."""
    body = {key: value for key, value in table.items() if key != "digest"}
    digest = hashlib.sha256(_dump(body)).hexdigest()
    return _dump({**body, "digest": digest})


def _dump(table: Mapping[str, Any]) -> bytes:
    return (json.dumps(table, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def parse(data: bytes, *, where: str = NAME) -> Manifest:
    """Read a manifest.

    Arguments:
        data: The file's bytes.
        where: Its path, for messages.

    Raises:
        IntegrityError: It is damaged, hostile, or of a schema that this version does not know.
    """
    table = parse_json(data, where=where)
    _compatible(table, where)
    if render(table) != data:
        raise refusal("manifest.json was altered: its own digest does not match", where)
    fields = _take(
        table,
        where,
        schema=int, kind=str, requires=list, needs=str, digest=str, name=str, toolkit=str,
        formula=str, k=(int, float), files=dict, entries=dict, latency=list, versions=dict,
        engines=list, verified=(dict, type(None)),
    )  # fmt: skip
    files = {
        safe_path(name, where=where): _file(item, where) for name, item in fields["files"].items()
    }
    entries = {
        _entry_name(name, where): _entry(name, item, where)
        for name, item in fields["entries"].items()
    }
    if not entries:
        raise refusal("the manifest names no entry", where)
    _all_listed(entries, files, where)
    return Manifest(
        name=fields["name"],
        toolkit=fields["toolkit"],
        files=files,
        entries=entries,
        latency=tuple(_latency(item, where) for item in fields["latency"]),
        table=table,
    )


def _compatible(table: dict[str, Any], where: str) -> None:
    if table.get("kind") != KIND:
        raise refusal(
            "manifest.json is not a bundle's", where, "give a bundle.zip or its unpacked folder"
        )
    unknown = set(map(str, table.get("requires") or [])) - FEATURES
    if table.get("schema") == SCHEMA and not unknown:
        return
    what = (
        f"needs the feature {shown(min(unknown))!r}"
        if unknown
        else f"has schema {shown(table.get('schema'))}, this version reads {SCHEMA}"
    )
    needs = f"needs toolkit >= {shown(table.get('needs', 'a later one'))}"
    raise refusal(f"the bundle {what}", where, f"{needs}: upgrade, or bundle again")


def _take(table: Any, where: str, **types: Any) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise refusal("a table is missing in the manifest", where)
    for key, kind in types.items():
        value = table.get(key, ...)
        wrong_bool = isinstance(value, bool) and kind is not bool
        if value is ... or wrong_bool or not isinstance(value, kind):
            raise refusal(f"the manifest's {key!r} is missing or of the wrong type", where)
    extra = set(table) - set(types)
    if extra:
        raise refusal(f"the manifest holds the unknown key {shown(min(extra))!r}", where)
    return table


def _file(item: Any, where: str) -> FileRecord:
    fields = _take(item, where, sha256=str, bytes=int)
    if not _SHA256.fullmatch(fields["sha256"]) or fields["bytes"] < 0:
        raise refusal("a file's checksum or size is malformed", where)
    return FileRecord(fields["sha256"], fields["bytes"])


def _entry_name(name: str, where: str) -> str:
    if not _ENTRY.fullmatch(name):
        raise refusal(f"{shown(name)!r} is no name of an entry", where)
    return name


def _entry(name: str, item: Any, where: str) -> EntryRecord:
    fields = _take(item, where, signature=dict, default=str, golden=str, variants=dict)
    variants = {
        _entry_name(variant, where): _variant(value, where)
        for variant, value in fields["variants"].items()
    }
    if fields["default"] not in variants:
        raise refusal(f"the default variant of {name!r} is not in the bundle", where)
    signature = parse_signature(fields["signature"], where=where)
    if signature.entry != name:
        raise refusal(f"the signature of {name!r} is another entry's", where)
    golden = safe_path(fields["golden"], where=where)
    return EntryRecord(signature, fields["default"], golden, variants)


def _variant(item: Any, where: str) -> Variant:
    fields = _take(
        item, where, file=str, data=list, opset=dict, ir_version=int, operators=dict, limits=dict
    )
    return Variant(
        file=safe_path(fields["file"], where=where),
        data=tuple(safe_path(name, where=where) for name in fields["data"]),
        opset=_counts(fields["opset"], where),
        ir_version=fields["ir_version"],
        operators=_counts(fields["operators"], where),
        limits={output: _limit(value, where) for output, value in fields["limits"].items()},
    )


def _counts(table: dict[str, Any], where: str) -> dict[str, int]:
    if not all(type(value) is int and value >= 0 for value in table.values()):
        raise refusal("an operator count or opset version is malformed", where)
    return table


def _limit(item: Any, where: str) -> Limit:
    fields = _take(item, where, unit=str, limit=(int, float), source=str)
    if fields["unit"] not in UNITS:
        raise refusal(f"the unit {shown(fields['unit'])!r} is unknown", where)
    if fields["limit"] < 0:
        raise refusal("a limit is negative", where)
    return Limit(fields["unit"], float(fields["limit"]), fields["source"])


def _latency(item: Any, where: str) -> Latency:
    fields = _take(
        item, where, entry=str, variant=str, batch=int, threads=int, p50_ms=(int, float),
        noise_band=(int, float, type(None)), processor=str,
    )  # fmt: skip
    if not 0 < fields["p50_ms"] < math.inf or fields["batch"] < 1:
        raise refusal("a latency is malformed", where)
    return Latency(**fields)


def _all_listed(
    entries: Mapping[str, EntryRecord], files: Mapping[str, FileRecord], where: str
) -> None:
    used = {record.golden for record in entries.values()} | {
        name
        for record in entries.values()
        for variant in record.variants.values()
        for name in (variant.file, *variant.data)
    }
    missing = sorted(used - set(files))
    if missing:
        raise refusal(f"the manifest gives no checksum of {missing[0]}", where)


def parse_signature(table: Any, *, where: str) -> Signature:
    """Read a signature strictly.

    Raises:
        IntegrityError: A field is missing, unknown or malformed.
    """
    fields = _take(
        table,
        where,
        entry=str,
        family=str,
        inputs=(list, tuple),
        outputs=(list, tuple),
        ranges=dict,
    )
    for spec in (*fields["inputs"], *fields["outputs"]):
        _spec(spec, where)
    for sizes in fields["ranges"].values():
        whole = isinstance(sizes, list) and all(type(size) is int and size > 0 for size in sizes)
        if not whole or len(sizes) not in (3, 4):
            raise refusal("a signature's range is malformed", where)
    names = [spec["name"] for spec in fields["inputs"]]
    if len(set(names)) != len(names):
        raise refusal("a signature names an input twice", where)
    return Signature.from_dict(fields)


def _spec(item: Any, where: str) -> None:
    fields = _take(
        item, where, name=str, dtype=str, dims=list, kind=str, law=str,
        low=_OPTIONAL_NUMBER, high=_OPTIONAL_NUMBER, unit=str, fixed_batch=int,
    )  # fmt: skip
    dims_good = all(
        (type(dim) is int and dim >= 0) or (isinstance(dim, str) and dim) for dim in fields["dims"]
    )
    words_good = (
        fields["dtype"] in DTYPES
        and fields["kind"] in _KINDS
        and fields["law"] in ("", "normal", "uniform", "gumbel")
    )
    axis_good = -1 <= fields["fixed_batch"] < max(1, len(fields["dims"]))
    if not words_good or not dims_good or not axis_good or not _domain_good(fields):
        raise refusal(f"the signature of {shown(fields['name'])!r} is malformed", where)


def _domain_good(fields: dict[str, Any]) -> bool:
    """Return whether the bounds are in order, and whole where the values are."""
    bounds = [bound for bound in (fields["low"], fields["high"]) if bound is not None]
    whole = fields["dtype"].startswith("float") or all(type(bound) is int for bound in bounds)
    return whole and bounds == sorted(bounds)
