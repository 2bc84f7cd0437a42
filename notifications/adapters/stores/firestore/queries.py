"""Queries in Firestore's own words, each part by the name that its documentation gives it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from google.cloud.firestore_v1 import types

from notifications.adapters.stores.firestore.values import put

Query = types.RunQueryRequest.pb()
NAME = "__name__"
ASCENDING, DESCENDING = 1, 2
OPERATORS = {"<": 1, "<=": 2, ">": 3, ">=": 4, "==": 5, "in": 8}  # StructuredQuery.FieldFilter.Operator


class Select:
    """One query over a collection, built part by part; `request` is what is sent."""

    def __init__(self, parent: str, collection: str, *, everywhere: bool = False) -> None:
        self.request: Any = Query(parent=parent)
        self._query = self.request.structured_query
        self._query.from_.add(collection_id=collection, all_descendants=everywhere)

    def where(self, field: str, operator: str, value: object) -> Self:
        """One more condition; all must hold. A bound of NAME is a document's whole name."""
        self._query.where.composite_filter.op = 1  # AND
        condition = self._query.where.composite_filter.filters.add().field_filter
        condition.field.field_path = field
        condition.op = OPERATORS[operator]
        _put(condition.value, field, value)
        return self

    def order_by(self, field: str, direction: int = ASCENDING) -> Self:
        """The order of the answer."""
        self._query.order_by.add(direction=direction).field.field_path = field
        return self

    def after(self, name: str | None) -> Self:
        """Start after this document, where the order is by NAME."""
        if name is not None:
            self._query.start_at.values.add().reference_value = name
            self._query.start_at.before = False
        return self

    def fields(self, names: Iterable[str]) -> Self:
        """These fields alone."""
        for name in names:
            self._query.select.fields.add().field_path = name
        return self

    def limit(self, count: int) -> Self:
        """At most so many documents."""
        self._query.limit.value = count
        return self


def _put(target: Any, field: str, value: object) -> None:
    if field == NAME:
        target.reference_value = str(value)
    else:
        put(target, value)
