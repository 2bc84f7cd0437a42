"""The shapes of apps: documents are written as docs/documents.md has them, and lie as the app's layout says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from notifications.adapters.stores.layout import Layout, read_layout

Doc = dict[str, Any]
FILE = Path(__file__).parent / "other_layout.toml"
# The names of docs/documents.md, and those of that file: written by hand, past the code under test.
USERS = {
    "time_zone": "settings.tz",
    "daily_summary_enabled": "settings.recap_on",
    "daily_summary_hour_local": "settings.recap_hour",
    "language": "locale",
}
DEVICES = {"token": "fcm"}
CONVERSATIONS = {
    "created_at": "createdAt",
    "structured.overview": "content.body",
    "structured.title": "subject",
    "discarded": "archived",
    "is_locked": "flags.private",
    "deleted": "flags.removed",
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ABSENT = object()


@dataclass(frozen=True)
class Shape:
    """How an app's documents lie: `name` is that of a test's parameter."""

    name: str
    file: Path | None
    users: str
    devices: str
    conversations: str
    owner: str
    summaries: str

    @property
    def layout(self) -> Layout:
        return read_layout(self.file)

    @property
    def env(self) -> dict[str, str]:
        return {"RECAP_LAYOUT": str(self.file)} if self.file else {}

    def field(self, name: str) -> str:
        """What the app calls a field of the user's document."""
        return USERS.get(name, name) if self.file else name

    def user(self, doc: Mapping[str, Any]) -> Doc:
        return _renamed(doc, USERS) if self.file else dict(doc)

    def user_back(self, doc: Mapping[str, Any]) -> Doc:
        return _renamed(doc, {theirs: ours for ours, theirs in USERS.items()}) if self.file else dict(doc)

    def user_changes(self, changes: Mapping[str, Any]) -> Doc:
        """As an update of single fields."""
        return {self.field(name): value for name, value in changes.items()}

    def device(self, doc: Any) -> Any:
        return _renamed(doc, DEVICES) if self.file and isinstance(doc, dict) else doc

    def device_back(self, doc: Mapping[str, Any]) -> Doc:
        return _renamed(doc, {theirs: ours for ours, theirs in DEVICES.items()}) if self.file else dict(doc)

    def conversation(self, uid: str, doc: Mapping[str, Any]) -> Doc:
        if not self.file:
            return dict(doc)
        at = doc.get("created_at")
        at = datetime.fromisoformat(at) if isinstance(at, str) else at
        ms = {"created_at": (at - EPOCH) / timedelta(milliseconds=1)} if isinstance(at, datetime) else {}
        return _renamed({**doc, **ms}, CONVERSATIONS) | {"uid": uid}


DEFAULT = Shape("default", None, "users", "fcm_tokens", "conversations", "", "daily_summaries")
OTHER = Shape("other", FILE, "apps/x/profiles", "devices", "notes", "uid", "recaps")


def _renamed(doc: Mapping[str, Any], names: Mapping[str, str]) -> Doc:
    """The document with the values of one shape under the names of another; what is in no list stays."""
    made: Doc = _copied(doc)
    for old, new in names.items():
        value = _taken(made, old)
        if value is not ABSENT:
            _put(made, new, value)
    return made


def _copied(value: Any) -> Any:
    return {name: _copied(one) for name, one in value.items()} if isinstance(value, Mapping) else value


def _taken(doc: Doc, name: str) -> Any:
    """The value, taken out; a map that is empty then goes, too."""
    first, _, rest = name.partition(".")
    if not rest:
        return doc.pop(first, ABSENT)
    if not isinstance(doc.get(first), dict):
        return ABSENT
    value = _taken(doc[first], rest)
    if not doc[first]:
        del doc[first]
    return value


def _put(doc: Doc, name: str, value: Any) -> None:
    first, _, rest = name.partition(".")
    if rest:
        _put(doc.setdefault(first, {}), rest, value)
    else:
        doc[first] = value
