"""What setup.sh asks beside gcloud, with Python's own library alone.

`named KIND FILE`: what a firestore.indexes.json wants of a kind (composite, field, unindexed, ttl), one a line.
`composite FILE GROUP FIELDS`, `ttl FILE FIELD`: whether it is in what gcloud listed as JSON; exit 0 or 1.
`field PROJECT DATABASE GROUP/NAME`, an access token on stdin: the field's index over all collections of that name, by
the REST API, since gcloud knows no such scope. A field with settings of the app's own is named, and left.
`unindexed PROJECT DATABASE GROUP/NAME`, an access token on stdin: the field without an index.
`settings FILE`, the job's YAML on stdin: the same with the file's settings in it, where there is a file.
"""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
from pathlib import Path
from typing import Any

API = os.environ.get("FIRESTORE_ADMIN_URL", "https://firestore.googleapis.com")
SCOPE, ORDER = "COLLECTION_GROUP", "ASCENDING"
SECONDS = 60
SETTING = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")
PLACE = re.compile(r"^( *)# @SETTINGS@.*\n", re.MULTILINE)


def places(kind: str, wanted: dict[str, Any]) -> list[str]:
    """The lines that setup.sh reads: GROUP and its fields as gcloud's flags, or GROUP/NAME."""
    if kind == "composite":
        return [f"{one['collectionGroup']}\t{';'.join(_configs(one))}" for one in wanted["indexes"]]
    kinds = [(_kind(one), f"{one['collectionGroup']}/{one['fieldPath']}") for one in wanted["fieldOverrides"]]
    return [place for found, place in kinds if found == kind]


def _kind(override: dict[str, Any]) -> str:
    if override.get("ttl"):
        return "ttl"
    return "field" if override["indexes"] else "unindexed"


def _configs(index: dict[str, Any]) -> list[str]:
    fields = [one for one in index["fields"] if one["fieldPath"] != "__name__"]
    return [f"field-path={one['fieldPath']},order={one.get('order', '').lower()}" for one in fields]


def composite(indexes: list[dict[str, Any]], group: str, configs: str) -> int:
    """Whether a query has its index, ready or being built."""
    for index in indexes:
        of_group = f"/collectionGroups/{group}/" in index["name"] and index.get("queryScope") == "COLLECTION"
        if of_group and _configs(index) == configs.split(";"):
            return 0
    return 1


def ttl(found: list[dict[str, Any]], name: str) -> int:
    """Whether the field ends documents."""
    policies = [one for one in found if one["name"].endswith(f"/fields/{name}")]
    return 0 if any(one.get("ttlConfig", {}).get("state") in ("ACTIVE", "CREATING") for one in policies) else 1


def field(project: str, database: str, named: str, token: str) -> None:
    """See that the field is indexed over all collections of its name, beside what it inherits."""
    group, _, name = named.partition("/")
    path = f"{API}/v1/projects/{project}/databases/{database}/collectionGroups/{group}/fields/{name}"
    config = _asked("GET", path, token).get("indexConfig", {})
    inherited = config.get("indexes", [])
    if any(_is_over_all(index) for index in inherited):
        return
    if not config.get("usesAncestorConfig"):
        print(
            f"setup: {group}.{name} has index settings of the app's own; add an ascending index over all collections "
            "of the name (COLLECTION_GROUP) to them, which audit and resend --where need.",
            file=sys.stderr,
        )
        return
    kept = [{"queryScope": one["queryScope"], "fields": one["fields"]} for one in inherited]
    for index in kept:  # what a database's default says of any field, it says with a star
        index["fields"] = [{**one, "fieldPath": name} for one in index["fields"]]
    ours = {"queryScope": SCOPE, "fields": [{"fieldPath": name, "order": ORDER}]}
    _asked("PATCH", f"{path}?updateMask=indexConfig", token, {"indexConfig": {"indexes": [*kept, ours]}})


def unindexed(project: str, database: str, named: str, token: str) -> None:
    """See that a long field has no index, unless somebody has set one."""
    group, _, name = named.partition("/")
    path = f"{API}/v1/projects/{project}/databases/{database}/collectionGroups/{group}/fields/{name}"
    if _asked("GET", path, token).get("indexConfig", {}).get("usesAncestorConfig"):
        _asked("PATCH", f"{path}?updateMask=indexConfig", token, {"indexConfig": {"indexes": []}})


def _is_over_all(index: dict[str, Any]) -> bool:
    return index.get("queryScope") == SCOPE and index["fields"][0].get("order") == ORDER


def _asked(method: str, url: str, token: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - https, or a test's own server
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
    return found


def settings(file: Path, job: str) -> str:
    """The YAML with a line for each setting. Raises ValueError for a line that is none."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    told = [line for line in lines if line.strip() and not line.startswith("#")]
    pairs = [SETTING.fullmatch(line) for line in told]
    if None in pairs:
        raise ValueError(f"{file} has a line that is no NAME=value: {told[pairs.index(None)].partition('=')[0]!r}")
    made = [f"- {{ name: {pair[1]}, value: {json.dumps(pair[2])} }}" for pair in pairs if pair]
    return PLACE.sub(lambda found: "".join(f"{found[1]}{line}\n" for line in made), job)


def main(kind: str, *given: str) -> int:
    """The exit code."""
    try:
        if kind in ("field", "unindexed"):
            project, database, named = given
            change = field if kind == "field" else unindexed
            change(project, database, named, sys.stdin.read().strip())
            return 0
        if kind == "named":
            wanted = json.loads(Path(given[1]).read_text(encoding="utf-8"))
            print("".join(f"{line}\n" for line in places(given[0], wanted)), end="")
            return 0
        if kind == "settings":
            print(settings(Path(given[0]), sys.stdin.read()), end="")
            return 0
    except (OSError, ValueError) as cause:
        print(f"setup: {kind} {given[-1]}: {cause}", file=sys.stderr)
        return 1
    found = json.loads(Path(given[0]).read_text(encoding="utf-8"))
    return composite(found, *given[1:]) if kind == "composite" else ttl(found, *given[1:])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
