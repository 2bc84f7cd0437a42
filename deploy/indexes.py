"""What setup.sh asks of Firestore's indexes, beside gcloud.

`indexes.py composite|ttl FILE`: whether it is in what gcloud listed as JSON; exit 0 or 1.
`indexes.py field PROJECT DATABASE GROUP/NAME`, an access token on stdin: the field's index over all collections of that
name, by the REST API, since gcloud knows no such scope. A field with settings of the app's own is named, and left.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

WANTED = ["daily_summary_enabled", "daily_summary_hour_local", "time_zone"]
API = os.environ.get("FIRESTORE_ADMIN_URL", "https://firestore.googleapis.com")
OVER_ALL = {"queryScope": "COLLECTION_GROUP", "order": "ASCENDING"}
INHERITED = [{"order": "ASCENDING"}, {"order": "DESCENDING"}, {"arrayConfig": "CONTAINS"}]  # of each collection
SECONDS = 60


def composite(indexes: list[dict[str, Any]]) -> int:
    """Whether the query for users has its index, ready or being built."""
    for index in indexes:
        fields = [(one["fieldPath"], one.get("order")) for one in index["fields"] if one["fieldPath"] != "__name__"]
        ours = fields == [(name, "ASCENDING") for name in WANTED]
        if ours and "/collectionGroups/users/" in index["name"] and index.get("queryScope") == "COLLECTION":
            return 0
    return 1


def ttl(found: list[dict[str, Any]]) -> int:
    """Whether `expire_at` ends documents."""
    named = [one for one in found if one["name"].endswith("/fields/expire_at")]
    return 0 if any(one.get("ttlConfig", {}).get("state") in ("ACTIVE", "CREATING") for one in named) else 1


def field(project: str, database: str, named: str, token: str) -> int:
    """See that the field is indexed over all collections of its name."""
    group, _, name = named.partition("/")
    path = f"{API}/v1/projects/{project}/databases/{database}/collectionGroups/{group}/fields/{name}"
    config = _asked("GET", path, token).get("indexConfig", {})
    if any(_is_over_all(index) for index in config.get("indexes", [])):
        return 0
    if not config.get("usesAncestorConfig"):
        print(
            f"setup: {group}.{name} has index settings of the app's own; add an ascending index over all collections "
            "of the name (COLLECTION_GROUP) to them, which audit and resend --where need.",
            file=sys.stderr,
        )
        return 0
    indexes = [{"queryScope": "COLLECTION", "fields": [{"fieldPath": name, **one}]} for one in INHERITED] + [
        {"queryScope": OVER_ALL["queryScope"], "fields": [{"fieldPath": name, "order": OVER_ALL["order"]}]}
    ]
    _asked("PATCH", f"{path}?updateMask=indexConfig", token, {"indexConfig": {"indexes": indexes}})
    return 0


def _is_over_all(index: dict[str, Any]) -> bool:
    return index.get("queryScope") == OVER_ALL["queryScope"] and index["fields"][0].get("order") == OVER_ALL["order"]


def _asked(method: str, url: str, token: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - https, or a test's own server
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
    return found


def main(kind: str, *given: str) -> int:
    """The exit code."""
    if kind == "field":
        try:
            return field(*given, token=sys.stdin.read().strip())  # type: ignore[misc]
        except (OSError, urllib.error.URLError) as cause:
            print(f"setup: Firestore's API does not answer for {given[-1]}: {cause}", file=sys.stderr)
            return 1
    found = json.loads(Path(given[0]).read_text())
    return composite(found) if kind == "composite" else ttl(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
