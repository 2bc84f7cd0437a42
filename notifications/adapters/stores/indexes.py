"""The indexes and TTL policies that a layout's queries need in Firestore, as a firestore.indexes.json."""

from __future__ import annotations

import json
from typing import Any

from notifications.adapters.stores.layout import LEDGERS, PARTS, Layout

ASCENDING, DESCENDING = "ASCENDING", "DESCENDING"
USUAL = [{"order": ASCENDING}, {"order": DESCENDING}, {"arrayConfig": "CONTAINS"}]  # of any field, by itself


def as_json(layout: Layout) -> str:
    """The file's text."""
    asked = layout.enabled, layout.hour, layout.time_zone
    due = _composite(layout.users, ASCENDING, *((name, ASCENDING) for name in asked))
    talks = _composite(layout.conversations, DESCENDING, (layout.owner, ASCENDING), (layout.created_at, DESCENDING))
    expire = {"fieldPath": "expire_at", "ttl": True, "indexes": []}
    overrides = [
        *({"collectionGroup": group, **expire} for group in (LEDGERS, PARTS)),
        {"collectionGroup": LEDGERS, "fieldPath": "told", "indexes": []},  # it is long
        *(_over_all(*place) for place in ((LEDGERS, "date"), (LEDGERS, "state"), (layout.summaries, "date"))),
    ]
    return json.dumps({"indexes": [due, *([talks] if layout.owner else [])], "fieldOverrides": overrides}, indent=2)


def _composite(path: str, last: str, *names: tuple[str, str]) -> dict[str, Any]:
    fields = [{"fieldPath": name, "order": order} for name, order in (*names, ("__name__", last))]
    return {"collectionGroup": path.rpartition("/")[2], "queryScope": "COLLECTION", "fields": fields}


def _over_all(group: str, name: str) -> dict[str, Any]:
    """The field's index over all collections of the name, beside its usual ones."""
    usual = [{**index, "queryScope": "COLLECTION"} for index in USUAL]
    ours = {"order": ASCENDING, "queryScope": "COLLECTION_GROUP"}
    return {"collectionGroup": group, "fieldPath": name, "indexes": [*usual, ours]}
