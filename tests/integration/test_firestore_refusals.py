"""What Google's own Firestore refuses, in its own words: exit 3, and a sentence that names what to mend."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta

import pytest

from notifications.adapters.stores.firestore import connect
from notifications.adapters.stores.layout import read_layout
from notifications.domain.delivery import LedgerRules
from notifications.domain.shards import Range
from tests.support.jobs import Stage, on_sqlite
from tests.support.refusals import RefusingFirestore

RULES = LedgerRules(timedelta(seconds=120), 3, timedelta(days=30))
DAY = date(2026, 5, 1)
DATASTORE = "The Cloud Firestore API is not available for"
CONSOLE = "https://console.cloud.google.com/datastore/setup?project=p"
OFF = "Cloud Firestore API has not been used in project p before or it is disabled."
NOT_FOUND, PRECONDITION, DENIED = "NOT_FOUND", "FAILED_PRECONDITION", "PERMISSION_DENIED"
GONE, DATASTORE_MODE = ("does not exist", "FIRESTORE_DATABASE"), ("is in Datastore mode", "FIRESTORE_DATABASE")
API_OFF = ("the Cloud Firestore API is off", "firestore.googleapis.com")
VISIT = "Enable it by visiting https://console.developers.google.com/apis/api/firestore.googleapis.com then retry."
# What it answers, with a reason or without, and what is said of it: what it is, and what to mend.
CASES: dict[str, tuple[tuple[str, ...], tuple[str, str]]] = {
    "no database": (
        (NOT_FOUND, f"The database (default) does not exist for project p Please visit {CONSOLE} to add a database."),
        GONE,
    ),
    "no database, without a word": ((NOT_FOUND, ""), GONE),
    "no database, as it was said before": (
        (NOT_FOUND, "The project p does not exist or it does not contain an active Cloud Firestore database."),
        GONE,
    ),
    "Datastore mode": (
        (PRECONDITION, f"{DATASTORE} Firestore in Datastore Mode database projects/index/databases/(default)."),
        DATASTORE_MODE,
    ),
    "Datastore mode, as it was said before": ((PRECONDITION, f"{DATASTORE} Cloud Datastore projects."), DATASTORE_MODE),
    "the API is off": ((DENIED, f"{OFF} {VISIT}", "SERVICE_DISABLED"), API_OFF),
    "the API is off, without details": ((DENIED, OFF), API_OFF),
    "no billing": (
        (DENIED, "This API method requires billing to be enabled.", "BILLING_DISABLED"),
        ("billing is off", "enable it"),
    ),
    "no project": (
        (DENIED, "Permission denied on resource project p.", "CONSUMER_INVALID"),
        ("project that does not exist", "GOOGLE_CLOUD_PROJECT"),
    ),
    "no permission": (
        (DENIED, "Missing or insufficient permissions."),
        ("refuses our credentials", "GOOGLE_APPLICATION_CREDENTIALS"),
    ),
    "no index": (
        (PRECONDITION, "The query requires an index. You can create it here: https://console.firebase…"),
        ("lacks an index", "deploy/setup.sh"),
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_each_refusal_of_firestore_is_named(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads, queries and transactions alike."""
    answer, (said, mend) = CASES[case]
    firestore = RefusingFirestore(*answer)
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore.host)
    store = await connect("p", "(default)", firestore.host, RULES, timedelta(seconds=20), read_layout(None))
    try:
        calls = (
            store.user_document("ann"),
            store.due_users(["UTC"], 22, Range(), None, 1),
            store.take("ann", DAY, "me"),
        )
        told = [str(fault) for fault in await asyncio.gather(*calls, return_exceptions=True)]
    finally:
        await store.aclose()
        firestore.stop()
    assert firestore.calls == 3
    assert [said in one and mend in one and "console" not in one for one in told] == [True] * 3, told


@on_sqlite
def test_what_a_person_has_to_mend_is_exit_3(stage: Stage) -> None:
    answer, (said, mend) = CASES["Datastore mode"]
    firestore = RefusingFirestore(*answer)
    finished = stage.run(GOOGLE_CLOUD_PROJECT="p", FIRESTORE_EMULATOR_HOST=firestore.host)
    firestore.stop()
    told = finished.err.splitlines()[-1]
    assert (finished.code, said in told, mend in told) == (3, True, True), finished.err
