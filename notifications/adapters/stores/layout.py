"""The layout of an app's documents: a file says where they are and how their fields are called. It converts nothing."""

from __future__ import annotations

import json
import re
import tomllib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from notifications.domain.errors import ConfigFault
from notifications.domain.text import is_document_id, printable

LEDGERS, PARTS = "recap_deliveries", "recap_parts"  # our own: under another name every day would be forgotten
CLOCK = "recap_clock/now"  # read for its time; never written
LEGACY_TOKEN, FID = "fcm_token", "fid"  # in no layout do these fields have another name
CONVERSATION_FIELDS = (
    *("started_at", "finished_at", "status", "deferred", "language", "user_title", "structured"),
    *("apps_results", "plugins_results", "geolocation"),
)
PART = re.compile(r"(?!__.*__$)[A-Za-z_]\w*", re.ASCII)  # of a dotted name


@dataclass(frozen=True, slots=True)
class Layout:
    """A file's values: each table's `collection` under the table's name, the other keys under their own.

    `users` may be a path such as apps/x/users. With an `owner`, a field that holds the uid, conversations are at the
    top level, else below their user, as devices and summaries always are. Fields' names may be dotted.
    """

    users: str
    time_zone: str
    enabled: str
    hour: str
    language: str
    devices: str
    token: str
    conversations: str
    owner: str
    created_at: str
    created_at_is: str
    text: tuple[str, ...]
    title: str
    leave_out: tuple[str, ...]
    summaries: str

    @property
    def version(self) -> int:
        """A hash of what SQLite's columns are made of, in 31 bits; 0 if that is as in files of earlier versions."""
        names, usual = (
            (one.time_zone, one.hour, one.enabled, one.created_at, one.created_at_is)
            for one in (self, read_layout(None))
        )
        return 0 if names == usual else zlib.crc32(repr(names).encode()) >> 1 or 1

    @property
    def user_fields(self) -> list[str]:
        """The fields that are read of a user's document, but for those of devices and channels."""
        return [self.time_zone, self.enabled, self.hour, self.language]

    @property
    def conversation_fields(self) -> list[str]:
        """The fields that are read of a conversation beside its transcript; none lies within another."""
        names = dict.fromkeys((self.created_at, *CONVERSATION_FIELDS, self.title, *self.text, *self.leave_out))
        return [name for name in names if not any(name.startswith(f"{other}.") for other in names)]

    def as_toml(self) -> str:
        """The layout as a file."""
        tables = (
            f"[{table}]\n" + "".join(f"{key} = {json.dumps(getattr(self, _attribute(table, key)))}\n" for key in keys)
            for table, keys in _default().items()
        )
        return "\n".join(tables)


@cache
def _default() -> dict[str, dict[str, Any]]:
    return tomllib.loads(Path(__file__).with_name("layout.toml").read_text(encoding="utf-8"))


def _attribute(table: str, key: str) -> str:
    return table if key == "collection" else key


def _built(tables: Mapping[str, Mapping[str, Any]]) -> Layout:
    named: dict[str, Any] = {
        _attribute(table, key): tuple(value) if isinstance(value, list) else value
        for table, keys in tables.items()
        for key, value in keys.items()
    }
    return Layout(**named)


def read_layout(path: Path | None) -> Layout:
    """The layout that RECAP_LAYOUT names; what its file leaves out is as in docs/documents.md. Raises ConfigFault."""
    if path is None:
        return _built(_default())
    text = ""
    try:
        text = path.read_text(encoding="utf-8")
        given = tomllib.loads(text)
    except OSError as cause:
        raise ConfigFault(f"RECAP_LAYOUT names {path}, which can't be read ({cause.strerror}); check it.") from None
    except ValueError as cause:
        line = re.search(r"at line (\d+)", str(cause))
        number = line[1] if line else max(1, len(text.splitlines()))
        raise ConfigFault(f"{path}, line {number}: it is no {'TOML' if text else 'UTF-8'}; correct the line.") from None

    def refuse(table: str, key: str, flaw: str) -> NoReturn:
        raise ConfigFault(f"{path}, line {_line(text, table, key)}: {flaw}.")

    for table, keys in given.items():
        known = _default().get(table)
        if known is None or not isinstance(keys, dict):
            refuse(table, "", f"{printable(table, 60)!r} is no table of a layout; {', '.join(_default())} are")
        for key, value in keys.items():
            if key not in known:
                refuse(table, key, f"{printable(key, 60)!r} is no name in [{table}]; {', '.join(known)} are")
            if flaw := _flaw(table, key, value, can_nest=table == "users" or bool(keys.get("owner"))):
                refuse(table, key, f"{key} {flaw}")
    layout = _built({table: keys | given.get(table, {}) for table, keys in _default().items()})
    for group in _groups(layout):
        for at, (table, key, name) in enumerate(group):
            for other in group[:at]:
                if f"{name}.".startswith(f"{other[2]}.") or f"{other[2]}.".startswith(f"{name}."):
                    place = (table, key) if key in given.get(table, {}) else other[:2]
                    refuse(*place, f"{printable(name, 60)!r} and {printable(other[2], 60)!r} can't both be; rename one")
    return layout


def _flaw(table: str, key: str, value: object, *, can_nest: bool) -> str:
    """What is wrong with one value; empty if nothing is."""
    is_list = key in ("text", "leave_out")
    names: list[Any] = value if is_list and isinstance(value, list) else [value]
    if is_list != isinstance(value, list) or not all(isinstance(name, str) for name in names):
        return 'is no list of names; write ["a", "b"]' if is_list else 'is no name; write "a"'
    if key == "created_at_is":
        return "" if value in ("timestamp", "ms") else "is none of timestamp, ms"
    if key == "collection":
        parts = str(value).split("/")
        good = all(is_document_id(part) and part.isprintable() and not {*"{}"} & {*part} for part in parts)
        return "" if good and (len(parts) == 1 or (can_nest and len(parts) % 2)) else "is no collection's name"
    good = all(PART.fullmatch(part) for name in names for part in name.split("."))
    if good or (key == "owner" and not value):
        return ""
    return "is no field's name; its parts are letters, digits and _, with dots between"


def _groups(layout: Layout) -> Iterator[Sequence[tuple[str, str, str]]]:
    """Names that must differ, and lie in no other: (table, key, name)."""
    yield [("", "", LEGACY_TOKEN), *(("users", key, getattr(layout, key)) for key in [*_default()["users"]][1:])]
    yield [("", "", FID), ("devices", "token", layout.token)]
    single = [("conversations", key, getattr(layout, key)) for key in ("created_at", "title", "owner")]
    lists = [("conversations", key, name) for key in ("text", "leave_out") for name in getattr(layout, key)]
    yield [*single[: 3 if layout.owner else 2], *lists]
    tables = ("devices", "summaries", *(() if layout.owner else ("conversations",)))
    ours = [("", "", LEDGERS), ("", "", PARTS)]
    yield [*ours, *((table, "collection", getattr(layout, table)) for table in tables)]
    if layout.owner:
        yield [("users", "collection", layout.users), ("conversations", "collection", layout.conversations)]


def _line(text: str, table: str, key: str) -> int:
    """The line of a key, else of its table, else the first: tomllib does not say."""
    inside, found = "", 1
    for number, line in enumerate((line.partition("#")[0] for line in text.splitlines()), start=1):
        if header := re.match(r"\s*\[\s*[\"']?([^]\"']+)", line):
            inside = header[1].strip()
            found = number if inside == table else found
        elif key and inside in (table, "") and re.search(rf"(^|[\s.{{,\"']){re.escape(key)}[\"']?\s*=", line):
            return number
    return found


def value_at(doc: object, name: str) -> Any:
    """The value at a dotted name; None if there is none."""
    if "." not in name:
        return doc.get(name) if isinstance(doc, Mapping) else None
    first, _, rest = name.partition(".")
    return value_at(doc.get(first), rest) if isinstance(doc, Mapping) else None


def with_value(doc: Mapping[str, Any], name: str, value: object) -> dict[str, Any]:
    """The document with a value at a dotted name."""
    first, _, rest = name.partition(".")
    inner = doc.get(first)
    return {**doc, first: with_value(inner if isinstance(inner, Mapping) else {}, rest, value) if rest else value}
