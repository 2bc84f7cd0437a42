"""Which types an app's documents have in the fields that the layout names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from notifications.adapters.stores.documents import created_at
from notifications.adapters.stores.layout import FID, Layout, value_at
from notifications.ports import FieldTypes

NAMES = {bool: "true or false", int: "number", float: "number", str: "text", datetime: "timestamp", bytes: "bytes"}


def types_of(layout: Layout, examples: Iterable[tuple[str, object]]) -> list[FieldTypes]:
    """The types of each field in documents, which come with their collection's name in the layout."""
    docs = list(examples)
    talks = [layout.created_at, *filter(None, [layout.owner]), layout.title, *layout.text, *layout.leave_out]
    places = ((layout.users, layout.user_fields), (layout.devices, [layout.token, FID]), (layout.conversations, talks))
    return [_types(layout, place, name, docs) for place, names in places for name in names]


def _types(layout: Layout, place: str, name: str, docs: list[tuple[str, object]]) -> FieldTypes:
    is_time = (place, name) == (layout.conversations, layout.created_at)
    values = [(value_at(doc, name), is_time and created_at(layout, doc) is not None) for of, doc in docs if of == place]
    wrong = sum(value is not None and not good for value, good in values) if is_time else 0
    names = Counter(layout.created_at_is if good else _name(value) for value, good in values)
    return FieldTypes(place, name, dict(names.most_common()), wrong)


def _name(value: object) -> str:
    return "missing" if value is None else NAMES.get(type(value)) or ("map" if isinstance(value, dict) else "list")
