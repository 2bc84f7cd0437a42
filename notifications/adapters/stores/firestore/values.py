"""Python values to and from Firestore's, on raw protocol buffers.

The client library's own messages are wrapped once more in Python, some 150 wrappers a user:
most of what a user cost. Its schema is used here unwrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud.firestore_v1 import types

Value = types.Value.pb()
Document = types.Document.pb()
EPOCH = datetime.fromtimestamp(0, UTC)


def put(target: Any, value: object) -> None:
    """Fill one Value in place. Raises TypeError for what the documents don't hold."""
    match value:
        case None:
            target.null_value = 0
        case bool():
            target.boolean_value = value
        case str():
            target.string_value = value
        case int():
            target.integer_value = value
        case float():
            target.double_value = value
        case datetime():
            since = value - EPOCH
            target.timestamp_value.seconds = since // timedelta(seconds=1)
            target.timestamp_value.nanos = since.microseconds * 1000
        case Mapping():
            target.map_value.SetInParent()  # an empty map is a map
            put_all(target.map_value.fields, value)
        case Sequence():
            target.array_value.SetInParent()
            for one in value:
                put(target.array_value.values.add(), one)
        case _:
            raise TypeError(f"no document holds a {type(value).__name__}")


def put_all(fields: Any, doc: Mapping[str, object]) -> None:
    """Fill a map of fields in place."""
    for name, value in doc.items():
        put(fields[name], value)


def instant(stamp: Any) -> datetime:
    """A protocol buffer's Timestamp, to the microsecond."""
    return EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)


def get(value: Any) -> Any:
    """The Python value; None for the types that the documents have no use for."""
    kind = value.WhichOneof("value_type")
    return READERS[kind](value) if kind in READERS else None


def get_all(fields: Any) -> dict[str, Any]:
    """The Python values of a map of fields."""
    return {name: get(value) for name, value in fields.items()}


READERS: dict[str, Callable[[Any], Any]] = {
    "string_value": lambda value: value.string_value,
    "boolean_value": lambda value: value.boolean_value,
    "integer_value": lambda value: value.integer_value,
    "double_value": lambda value: value.double_value,
    "timestamp_value": lambda value: instant(value.timestamp_value),
    "map_value": lambda value: get_all(value.map_value.fields),
    "array_value": lambda value: [get(one) for one in value.array_value.values],
    "bytes_value": lambda value: value.bytes_value,
    "reference_value": lambda value: value.reference_value,
}
