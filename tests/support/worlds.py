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
from notifications.domain.claim import environment_of
from notifications.domain.delivery import LedgerRules
from notifications.ports import Store
from notifications.testing import MemoryStore, MemoryWorld
from notifications.testing.documents_suite import RULES
from notifications.testing.world import LONG_AGO
from notifications.testing.world import Doc as Doc
from notifications.testing.world import World as World
from notifications.testing.world import talk as talk
from tests.support.layouts import DEFAULT, Shape


class FirestoreWorld:
    """A project of its own in the emulator, by the synchronous client."""

    name = "firestore"

    def __init__(self, host: str, database: str = "(default)", shape: Shape = DEFAULT) -> None:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import firestore

        self.host, self.shape = host, shape
        self._owners: dict[str, str] = {}  # of a conversation's id, where one collection has all users'
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
        return {"GOOGLE_CLOUD_PROJECT": self.project, "FIRESTORE_EMULATOR_HOST": self.host} | named | self.shape.env

    def _user(self, uid: str) -> Any:
        return self.db.document(f"{self.shape.users}/{uid}")

    def _talk(self, uid: str, key: str) -> Any:
        if not self.shape.owner:
            return self._user(uid).collection(self.shape.conversations).document(key)
        is_ours = self._owners.setdefault(key, uid) == uid
        return self.db.collection(self.shape.conversations).document(key if is_ours else f"{uid}-{key}")

    def put_user(self, uid: str, doc: Doc, tokens: Mapping[str, str], talks: Mapping[str, Doc]) -> None:
        batch = self.db.batch()
        batch.set(self._user(uid), self.shape.user(doc))
        for key, token in tokens.items():
            batch.set(self._device(uid, key), self.shape.device({"token": token}))
        for key, one in talks.items():
            batch.set(self._talk(uid, key), self.shape.conversation(uid, one))
        batch.commit()

    def update_user(self, uid: str, changes: Doc) -> None:
        self._user(uid).update(self.shape.user_changes(changes))

    def delete_user(self, uid: str) -> None:
        self._user(uid).delete()

    def user(self, uid: str) -> Doc | None:
        found: Doc | None = self._user(uid).get().to_dict()
        return found if found is None else self.shape.user_back(found)

    def _all(self, uid: str, collection: str) -> dict[str, Doc]:
        return {found.id: found.to_dict() for found in self._user(uid).collection(collection).stream()}

    def tokens(self, uid: str) -> dict[str, Doc]:
        return {key: self.shape.device_back(doc) for key, doc in self._all(uid, self.shape.devices).items()}

    def put_token(self, uid: str, key: str, token: str) -> None:
        self.put_device(uid, key, {"token": token})

    def _device(self, uid: str, key: str) -> Any:
        return self._user(uid).collection(self.shape.devices).document(key)

    def put_device(self, uid: str, key: str, doc: Doc) -> None:
        self._device(uid, key).set(self.shape.device(doc))

    def ledgers(self, uid: str) -> dict[str, Doc]:
        return self._all(uid, "recap_deliveries")

    def summaries(self, uid: str) -> dict[str, Doc]:
        return self._all(uid, self.shape.summaries)

    def put_summary(self, uid: str, key: str, doc: Doc) -> None:
        self._user(uid).collection(self.shape.summaries).document(key).set(doc)

    def delete_summary(self, uid: str, key: str) -> None:
        self._user(uid).collection(self.shape.summaries).document(key).delete()

    def delete_ledger(self, uid: str, day: str) -> None:
        self._user(uid).collection("recap_deliveries").document(day).delete()

    def put_ledger(self, uid: str, day: str, doc: Doc) -> None:
        self._user(uid).collection("recap_deliveries").document(day).set(doc)

    def put_talk(self, uid: str, key: str, doc: Doc) -> None:
        self._talk(uid, key).set(self.shape.conversation(uid, doc))

    def close(self) -> None:
        self.db.close()


class SqliteWorld:
    """A data folder of its own."""

    name = "sqlite"

    def __init__(self, folder: Path, shape: Shape = DEFAULT) -> None:
        self.folder, self.shape = folder, shape
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "created").write_text(LONG_AGO.isoformat())  # no sample users
        (folder / "environment").write_text(made := uuid.uuid4().hex[:16])
        self.environment = environment_of("folder", made)
        self.db = sqlite.open_file(folder / "recap.sqlite3", shape.layout)

    def env(self) -> dict[str, str]:
        return {"RECAP_DATA_DIR": str(self.folder)} | self.shape.env

    def put_user(self, uid: str, doc: Doc, tokens: Mapping[str, str], talks: Mapping[str, Doc]) -> None:
        self._put(uid, doc, {key: {"token": token} for key, token in tokens.items()}, talks)
        self.make_old(uid)

    def _put(self, uid: str, doc: Doc, devices: Mapping[str, Doc], talks: Mapping[str, Doc]) -> None:
        theirs = {key: self.shape.device(one) for key, one in devices.items()}
        said = {key: self.shape.conversation(uid, one) for key, one in talks.items()}
        sqlite.put(self.db, self.shape.layout, uid, self.shape.user(doc), theirs, said)

    def make_old(self, uid: str, at: datetime = LONG_AGO) -> None:
        """As if the account were of that time, and unchanged since."""
        columns = [column[1] for column in self.db.execute("PRAGMA table_info(users)")]
        if "created_at" in columns:
            row = (sqlite.micros(at), sqlite.micros(at), uid)
            self.db.execute("UPDATE users SET created_at = ?, updated_at = ? WHERE uid = ?", row)

    def update_user(self, uid: str, changes: Doc) -> None:
        self._put(uid, (self.user(uid) or {}) | changes, {}, {})

    def delete_user(self, uid: str) -> None:
        self.db.execute("DELETE FROM users WHERE uid = ?", (uid,))

    def user(self, uid: str) -> Doc | None:
        row = self.db.execute("SELECT doc FROM users WHERE uid = ?", (uid,)).fetchone()
        return self.shape.user_back(json.loads(row[0])) if row else None

    def tokens(self, uid: str) -> dict[str, Doc]:
        rows = self.db.execute("SELECT key, doc FROM devices WHERE uid = ?", (uid,))
        return {key: self.shape.device_back(json.loads(doc)) for key, doc in rows}

    def put_token(self, uid: str, key: str, token: str) -> None:
        self.put_device(uid, key, {"token": token})

    def put_device(self, uid: str, key: str, doc: Doc) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO devices VALUES (?, ?, ?)", (uid, key, json.dumps(self.shape.device(doc)))
        )

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
        self._put(uid, user, {}, {key: doc})

    def close(self) -> None:
        self.db.close()


async def connect(world: World, rules: LedgerRules = RULES) -> Store:
    """A store over the world's documents."""
    if isinstance(world, FirestoreWorld):
        timeout, layout = timedelta(seconds=60), world.shape.layout
        return await firestore.connect(world.project, "(default)", world.host, rules, timeout, layout)
    if isinstance(world, MemoryWorld):
        return MemoryStore(world.documents, rules)
    assert isinstance(world, SqliteWorld)
    return SqliteStore(world.folder / "recap.sqlite3", rules, world.shape.layout)
