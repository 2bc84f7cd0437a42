"""The document stores as tests see them: filled and read directly, past the adapters under test."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from google.api_core.exceptions import GoogleAPICallError

from notifications.adapters.local.sqlite import SqliteStore
from notifications.adapters.local.sqlite import file as sqlite
from notifications.adapters.stores import firestore
from notifications.adapters.stores.documents import moment
from notifications.adapters.stores.layout import read_layout
from notifications.domain.claim import environment_of
from notifications.domain.delivery import LedgerRules
from notifications.ports import Store
from notifications.testing import MemoryStore, MemoryWorld
from notifications.testing.documents_suite import RULES
from notifications.testing.world import LONG_AGO
from notifications.testing.world import Doc as Doc
from notifications.testing.world import World as World
from notifications.testing.world import talk as talk


class FirestoreWorld:
    """A project of its own in the emulator, by the synchronous client."""

    name = "firestore"

    def __init__(self, host: str, database: str = "(default)") -> None:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import firestore

        self.host = host
        self.project = f"test-{uuid.uuid4().hex[:12]}"
        self.database = database
        self.environment = environment_of("emulator", self.project, database)
        self.db = firestore.Client(project=self.project, credentials=AnonymousCredentials(), database=database)

    def roll_back(self, transaction: bytes) -> None:
        """Drop a transaction, if it is still open."""
        with suppress(GoogleAPICallError):
            self.db._firestore_api.rollback(
                request={"database": self.db._database_string, "transaction": transaction}, retry=None
            )

    def env(self) -> dict[str, str]:
        named = {} if self.database == "(default)" else {"FIRESTORE_DATABASE": self.database}
        return {"GOOGLE_CLOUD_PROJECT": self.project, "FIRESTORE_EMULATOR_HOST": self.host} | named

    def _user(self, uid: str) -> Any:
        return self.db.collection("users").document(uid)

    def put_user(self, uid: str, doc: Doc, tokens: Mapping[str, str], talks: Mapping[str, Doc]) -> None:
        batch = self.db.batch()
        batch.set(self._user(uid), doc)
        for key, token in tokens.items():
            batch.set(self._user(uid).collection("fcm_tokens").document(key), {"token": token})
        for key, one in talks.items():
            batch.set(self._user(uid).collection("conversations").document(key), one)
        batch.commit()

    def update_user(self, uid: str, changes: Doc) -> None:
        self._user(uid).update(changes)

    def delete_user(self, uid: str) -> None:
        self._user(uid).delete()

    def user(self, uid: str) -> Doc | None:
        found: Doc | None = self._user(uid).get().to_dict()
        return found

    def _all(self, uid: str, collection: str) -> dict[str, Doc]:
        return {found.id: found.to_dict() for found in self._user(uid).collection(collection).stream()}

    def tokens(self, uid: str) -> dict[str, Doc]:
        return self._all(uid, "fcm_tokens")

    def put_token(self, uid: str, key: str, token: str) -> None:
        self.put_device(uid, key, {"token": token})

    def put_device(self, uid: str, key: str, doc: Doc) -> None:
        self._user(uid).collection("fcm_tokens").document(key).set(doc)

    def ledgers(self, uid: str) -> dict[str, Doc]:
        return self._all(uid, "recap_deliveries")

    def summaries(self, uid: str) -> dict[str, Doc]:
        return self._all(uid, "daily_summaries")

    def put_summary(self, uid: str, key: str, doc: Doc) -> None:
        self._user(uid).collection("daily_summaries").document(key).set(doc)

    def delete_summary(self, uid: str, key: str) -> None:
        self._user(uid).collection("daily_summaries").document(key).delete()

    def delete_ledger(self, uid: str, day: str) -> None:
        self._user(uid).collection("recap_deliveries").document(day).delete()

    def put_ledger(self, uid: str, day: str, doc: Doc) -> None:
        self._user(uid).collection("recap_deliveries").document(day).set(doc)

    def put_talk(self, uid: str, key: str, doc: Doc) -> None:
        self._user(uid).collection("conversations").document(key).set(doc)

    def close(self) -> None:
        self.db.close()


class SqliteWorld:
    """A data folder of its own."""

    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "created").write_text(LONG_AGO.isoformat())  # no sample users
        (folder / "environment").write_text(made := uuid.uuid4().hex[:16])
        self.environment = environment_of("folder", made)
        self.db = sqlite.open_file(folder / "recap.sqlite3", read_layout(None))

    def env(self) -> dict[str, str]:
        return {"RECAP_DATA_DIR": str(self.folder)}

    def put_user(self, uid: str, doc: Doc, tokens: Mapping[str, str], talks: Mapping[str, Doc]) -> None:
        devices = {key: {"token": token} for key, token in tokens.items()}
        sqlite.put(self.db, read_layout(None), uid, doc, devices, talks)
        self.make_old(uid)

    def make_old(self, uid: str, at: datetime = LONG_AGO) -> None:
        """As if the account were of that time, and unchanged since."""
        columns = [column[1] for column in self.db.execute("PRAGMA table_info(users)")]
        if "created_at" in columns:
            row = (sqlite.micros(at), sqlite.micros(at), uid)
            self.db.execute("UPDATE users SET created_at = ?, updated_at = ? WHERE uid = ?", row)

    def update_user(self, uid: str, changes: Doc) -> None:
        sqlite.put(self.db, read_layout(None), uid, (self.user(uid) or {}) | changes, {}, {})

    def delete_user(self, uid: str) -> None:
        self.db.execute("DELETE FROM users WHERE uid = ?", (uid,))

    def user(self, uid: str) -> Doc | None:
        row = self.db.execute("SELECT doc FROM users WHERE uid = ?", (uid,)).fetchone()
        return json.loads(row[0]) if row else None

    def tokens(self, uid: str) -> dict[str, Doc]:
        rows = self.db.execute("SELECT key, doc FROM devices WHERE uid = ?", (uid,))
        return {key: json.loads(doc) for key, doc in rows}

    def put_token(self, uid: str, key: str, token: str) -> None:
        self.put_device(uid, key, {"token": token})

    def put_device(self, uid: str, key: str, doc: Doc) -> None:
        self.db.execute("INSERT OR REPLACE INTO devices VALUES (?, ?, ?)", (uid, key, json.dumps(doc)))

    def ledgers(self, uid: str) -> dict[str, Doc]:
        rows = self.db.execute("SELECT date, doc FROM ledgers WHERE uid = ?", (uid,))
        times = ("sending_at", "sent_at", "window_start", "window_end", "read_from", "expire_at", "created_at")
        docs = ((day, json.loads(doc)) for day, doc in rows)
        return {day: doc | {name: moment(doc[name]) for name in times if name in doc} for day, doc in docs}

    def summaries(self, uid: str) -> dict[str, Doc]:
        rows = self.db.execute("SELECT id, doc FROM summaries WHERE uid = ?", (uid,))
        return {key: json.loads(doc) for key, doc in rows}

    def put_summary(self, uid: str, key: str, doc: Doc) -> None:
        text = json.dumps(doc, default=lambda value: value.isoformat())
        self.db.execute("INSERT OR REPLACE INTO summaries VALUES (?, ?, ?, ?)", (uid, doc["date"], key, text))

    def delete_summary(self, uid: str, key: str) -> None:
        self.db.execute("DELETE FROM summaries WHERE uid = ? AND id = ?", (uid, key))

    def delete_ledger(self, uid: str, day: str) -> None:
        self.db.execute("DELETE FROM ledgers WHERE uid = ? AND date = ?", (uid, day))

    def put_ledger(self, uid: str, day: str, doc: Doc) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO ledgers (uid, date, doc) VALUES (?, ?, ?)", (uid, day, sqlite.to_json(doc))
        )

    def put_talk(self, uid: str, key: str, doc: Doc) -> None:
        user = self.user(uid)
        assert user is not None
        sqlite.put(self.db, read_layout(None), uid, user, {}, {key: doc})

    def close(self) -> None:
        self.db.close()


async def connect(world: World, rules: LedgerRules = RULES) -> Store:
    """A store over the world's documents."""
    if isinstance(world, FirestoreWorld):
        return await firestore.connect(
            world.project, "(default)", world.host, rules, timedelta(seconds=60), read_layout(None)
        )
    if isinstance(world, MemoryWorld):
        return MemoryStore(world.documents, rules)
    assert isinstance(world, SqliteWorld)
    return SqliteStore(world.folder / "recap.sqlite3", rules, read_layout(None))
