"""The ports in memory, so that a whole run is one process and a millisecond: held to the same contract suites."""

from __future__ import annotations

import asyncio
import copy
import fnmatch
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from notifications.adapters.stores import documents
from notifications.adapters.stores.documents import (
    PART_KEPT,
    Facts,
    kept_from,
    kept_to,
    ledger_from,
    ledger_to,
    summary_from,
    unknown_fields,
)
from notifications.adapters.stores.imports import checked, mended
from notifications.adapters.stores.ledgers import Decide, TransactionalLedger, read_again
from notifications.domain import claim
from notifications.domain.backoff import RateLimit
from notifications.domain.claim import Call, ClaimAnswer, ClaimState, Record, Verb, decide, new_token, reason_code
from notifications.domain.delivery import Decision, LedgerRules, Opening, Snapshot
from notifications.domain.errors import ItemReason, Malformed
from notifications.domain.model import Cited, Conversation, Device, Draft, Ledger, Summary, day_of
from notifications.domain.money import SPEND_KEPT_SECONDS, Spent
from notifications.domain.push import ACCEPTED, Message, PushAnswer
from notifications.domain.question import Question
from notifications.domain.shards import Range
from notifications.domain.told import Candidates
from notifications.ports import Answer, Checked, ClaimTerms, Decided, Listed, Mended, RawKey, Reply, ScannedKey
from notifications.recap.bounds import MAX_READ
from notifications.recap.document import recap_to
from tests.support.answers import answer_to

ENVIRONMENT = "memory"
Doc = dict[str, Any]
Clock = Callable[[], datetime]


def wall_clock() -> datetime:
    return datetime.now(UTC)


class MemoryRedis:
    """A few of Redis' own commands over one dict: what older deployments and tests say."""

    def __init__(self, clock: Clock = wall_clock) -> None:
        self.clock = clock
        self.values: dict[str, tuple[Any, int | None]] = {}  # and when each ends, ms

    @property
    def ms(self) -> int:
        return int(self.clock().timestamp() * 1000)

    def look(self, key: str) -> Any:
        value, ends = self.values.get(key, (None, None))
        if ends is not None and ends <= self.ms:
            del self.values[key]
            return None
        return value

    def ends(self, key: str) -> int | None:
        return self.values[key][1] if self.look(key) is not None else None

    async def get(self, key: str) -> bytes | None:
        value = self.look(key)
        return value.encode() if value is not None else None

    async def set(self, key: str, value: str, *, px: int | None = None) -> None:
        self.values[key] = (value, None if px is None else self.ms + px)

    async def pttl(self, key: str) -> int:
        ends = self.ends(key)
        return -1 if ends is None else ends - self.ms

    async def hset(self, key: str, name: str, value: str) -> None:
        self.values[key] = ({name.encode(): value.encode()}, None)

    async def hgetall(self, key: str) -> Any:
        return self.look(key)


class MemoryClaims:
    """The Claims port: the table itself, over a dict."""

    def __init__(self, redis: MemoryRedis | None = None) -> None:
        self._client = redis or MemoryRedis()
        self.told: list[str] = []
        self.environment = ENVIRONMENT

    async def now(self) -> datetime:
        return self._client.clock()

    async def read(self, keys: Sequence[str]) -> list[Record]:
        return [self._record(key) for key in keys]

    def _record(self, key: str) -> Record:
        value = self._client.look(key)
        return claim.FOREIGN if isinstance(value, dict) else claim.parse(value)

    async def claim(self, terms: ClaimTerms, token: str, lane: int) -> Reply:
        return self._carry_out(Call(Verb.CLAIM, token, self._client.ms, terms.lease_ms, lane, terms.max_crashes), terms)

    async def renew(self, terms: ClaimTerms, token: str) -> Reply:
        return self._carry_out(Call(Verb.RENEW, token, self._client.ms, terms.lease_ms), terms)

    async def complete(self, terms: ClaimTerms, token: str, outcome: ClaimState) -> Reply:
        return self._carry_out(Call(Verb.COMPLETE, token, self._client.ms, outcome=outcome), terms)

    async def fail(self, terms: ClaimTerms, token: str, wait: timedelta, counts: int, reason: str) -> Reply:
        ask = Call(
            Verb.FAIL,
            token,
            self._client.ms,
            wait=max(0, wait // timedelta(milliseconds=1)),
            counts=counts,
            max_failures=terms.max_failures,
            until=terms.until_ms,
            reason=reason_code(reason),
        )
        return self._carry_out(ask, terms)

    def _carry_out(self, ask: Call, terms: ClaimTerms) -> Reply:
        before = self._record(terms.key)
        transition = decide(ask, before)
        after, wait = transition.after, transition.wait
        if wait == -1:  # another maker's value
            ends = self._client.ends(terms.key)
            if ends is None:
                value, _ = self._client.values[terms.key]
                ends = ask.now + claim.FOREIGN_TTL_MS
                self._client.values[terms.key] = (value, ends)
            wait = ends - ask.now
        elif after.state is ClaimState.ABSENT:
            self._client.values.pop(terms.key, None)
        elif after != before or after.state is ClaimState.CLAIMED:
            self._store(terms, ask.now, after)
        return Reply(
            answer=transition.answer,
            now=datetime.fromtimestamp(ask.now // 1000, UTC) + timedelta(milliseconds=ask.now % 1000),
            wait=timedelta(milliseconds=wait),
            final=after.state if transition.answer is ClaimAnswer.DONE else None,
            failures=after.failures,
            crashes=after.crashes,
            reason=self._why_held(terms.key, before) if ask.verb is Verb.CLAIM else after.reason,
        )

    def _why_held(self, key: str, before: Record) -> str:
        if before.state is not ClaimState.FOREIGN:
            return before.reason
        return claim.FOREIGN_TYPE if isinstance(self._client.look(key), dict) else claim.FOREIGN_TEXT

    def _store(self, terms: ClaimTerms, now: int, record: Record) -> None:
        fields = {
            "s": record.state.value,
            "t": record.token,
            "u": record.until,
            "f": record.failures,
            "c": record.crashes,
            "r": record.reason,
        }
        short = {name: value for name, value in fields.items() if name in "st" or value}
        ends = max(terms.expire_ms, now + terms.lease_ms + claim.EXPIRY_AFTER_LEASE_MS)
        self._client.values[terms.key] = (json.dumps(short), ends)

    async def free(self, terms: ClaimTerms, token: str) -> Reply:
        return self._carry_out(Call(Verb.FREE, token, self._client.ms), terms)

    async def forget(self, key: str, only: Record | None = None) -> bool:
        if only is None:
            self._client.values.pop(key, None)
            return True
        ask = Call(Verb.FORGET, only.token, self._client.ms, outcome=only.state)
        return self._carry_out(ask, ClaimTerms(key, 0, 0, 0)).answer is ClaimAnswer.OK

    async def add_names(self, key: str, names: Collection[str], expire_ms: int) -> None:
        self._client.values[key] = (frozenset({*(self._client.look(key) or ()), *names}), expire_ms)

    async def names(self, key: str) -> frozenset[str]:
        return self._client.look(key) or frozenset()

    async def take_turn(self, key: str, every: timedelta, at: datetime) -> bool:
        if self._client.look(key) is not None:
            return False
        await self._client.set(key, claim.turn_value(new_token(), int(at.timestamp() * 1000)), px=_ms(every))
        return True

    async def remember(self, key: str, at: datetime, kept: timedelta) -> bool:
        if await self.take_turn(key, kept, at):
            return True
        value, _ = self._client.values[key]
        self._client.values[key] = (value, self._client.ms + _ms(kept))
        return False

    async def set_pause(self, key: str, rest: timedelta) -> None:
        if await self.pause_left(key) < rest:
            await self._client.set(key, "1", px=_ms(rest))

    async def pause_left(self, key: str) -> timedelta:
        return timedelta(milliseconds=max(0, await self._client.pttl(key)))

    async def reserve(self, key: str, token: str, amount: int, most: int) -> bool:
        held: dict[str, int] = self._client.look(key) or {"total": 0}
        if token in held:
            return True
        if held["total"] + amount > most:
            return False
        kept = held | {"total": held["total"] + amount, token: amount}
        self._client.values[key] = (kept, self._client.ms + SPEND_KEPT_SECONDS * 1000)
        return True

    async def settle(self, key: str, token: str, amount: int) -> None:
        held: dict[str, int] = self._client.look(key) or {}
        if token in held:
            held["total"] += amount - held.pop(token)

    async def scan(self, pattern: str) -> AsyncIterator[ScannedKey]:
        for key in sorted(self._client.values):
            if fnmatch.fnmatchcase(key, pattern) and self._client.look(key) is not None:
                ends = self._client.ends(key)
                ttl = None if ends is None else timedelta(milliseconds=ends - self._client.ms)
                yield ScannedKey(key, self._record(key), ttl)

    async def keys(self, pattern: str) -> AsyncIterator[RawKey]:
        for found in [one async for one in self.scan(pattern)]:
            held = self._client.look(found.key)
            if isinstance(held, dict):
                held = json.dumps({name: str(amount) for name, amount in sorted(held.items())})
            yield RawKey(found.key, "(set)" if isinstance(held, frozenset) else held, found.ttl)

    async def warnings(self) -> list[str]:
        return self.told

    async def aclose(self) -> None:
        """Nothing is open."""


def _ms(span: timedelta) -> int:
    return max(1, span // timedelta(milliseconds=1))


@dataclass
class Kept:
    """One document, and when it was made and last written."""

    doc: Doc
    created: datetime
    updated: datetime


@dataclass
class MemoryDocuments:
    """users/{uid} and the collections below it, which several stores may share."""

    clock: Clock = wall_clock
    users: dict[str, Kept] = field(default_factory=dict)
    below: dict[tuple[str, str], dict[str, Kept]] = field(default_factory=dict)

    def collection(self, uid: str, name: str) -> dict[str, Kept]:
        return self.below.setdefault((uid, name), {})

    def put(self, place: dict[str, Kept], key: str, doc: Mapping[str, Any], at: datetime | None = None) -> None:
        now = at or self.clock()
        created = place[key].created if key in place else now
        place[key] = Kept(copy.deepcopy(dict(doc)), created, now)


class MemoryStore(TransactionalLedger):
    """The Store port over the documents in memory."""

    def __init__(self, documents: MemoryDocuments, rules: LedgerRules) -> None:
        self._kept = documents
        self._rules = rules

    def _listed(self, uid: str) -> Listed:
        kept = self._kept.users[uid]
        return documents.listed(uid, copy.deepcopy(kept.doc), kept.created, kept.updated)

    async def due_users(
        self, zones: Sequence[str], hour: int, ids: Range, after: str | None, limit: int
    ) -> list[Listed]:
        def due(uid: str) -> bool:
            doc = self._kept.users[uid].doc
            given = doc.get(documents.USER_HOUR)
            return (
                uid > (after or "")
                and uid >= (ids.start or "")
                and (ids.end is None or uid < ids.end)
                and documents.active(doc)
                and not isinstance(given, bool)
                and given == hour
                and doc.get(documents.USER_ZONE) in zones
            )

        return [self._listed(uid) for uid in sorted(filter(due, self._kept.users))[:limit]]

    async def now(self) -> datetime:
        return self._kept.clock()

    async def user(self, uid: str) -> Listed | None:
        return self._listed(uid) if uid in self._kept.users else None

    async def conversations_in(self, uid: str, candidates: Candidates) -> tuple[list[Conversation], int]:
        dated = [
            (taken_in, key, kept.doc)
            for key, kept in self._kept.collection(uid, "conversations").items()
            if (taken_in := documents.moment(kept.doc.get("created_at")))
            and candidates.since <= taken_in < candidates.until
            and not candidates.leave_out(uid, key)
        ]
        found, malformed = [], 0
        for _, key, doc in sorted(dated, key=lambda one: one[:2])[-MAX_READ:]:
            try:
                conversation = documents.conversation_from(key, doc)
            except Malformed:
                malformed += 1
            else:
                found += [conversation] if conversation and not candidates.under_way(conversation) else []
        return found, malformed

    async def devices(self, uid: str) -> tuple[list[Device], int]:
        kept = sorted(self._kept.collection(uid, "fcm_tokens").items())
        found, malformed = documents.devices_from((key, one.doc, one.updated) for key, one in kept)
        user = self._kept.users.get(uid)
        return documents.chosen(found, user.doc if user else None), malformed

    async def forget_device(self, uid: str, device: Device) -> bool:
        if device.key is not None:
            tokens = self._kept.collection(uid, "fcm_tokens")
            unchanged = device.key in tokens and tokens[device.key].updated == device.version
            if unchanged:
                del tokens[device.key]
            return unchanged
        user = self._kept.users.get(uid)
        if user is None or user.doc.get(documents.LEGACY_TOKEN) != device.version:
            return False
        del user.doc[documents.LEGACY_TOKEN]
        return True

    def _ledgers(self, uid: str) -> dict[date, Ledger]:
        kept = self._kept.collection(uid, "recap_deliveries")
        days = ((day_of(key), one.doc) for key, one in kept.items())
        return {day: ledger_from(day, doc) for day, doc in days if day is not None}

    async def ledgers_between(self, uid: str, first: date, last: date) -> dict[date, Ledger]:
        return {day: entry for day, entry in self._ledgers(uid).items() if first <= day <= last}

    async def open_ledgers(self, after: tuple[str, date] | None, limit: int) -> list[tuple[str, Ledger]]:
        owners = sorted(uid for uid, name in self._kept.below if name == "recap_deliveries")
        found = [(uid, entry) for uid in owners for _, entry in sorted(self._ledgers(uid).items())]
        later = [(uid, one) for uid, one in found if after is None or (uid, one.date) > after]
        return [(uid, one) for uid, one in later if one.state.open][:limit]

    async def summary(self, uid: str, day: date) -> Summary | None:
        kept = sorted(self._kept.collection(uid, "daily_summaries").items())
        return next((summary_from(key, one.doc) for key, one in kept if one.doc.get("date") == day.isoformat()), None)

    async def _transact(
        self, uid: str, day: date, decide: Decide, *, user: bool, summary: bool = False, rests_on: Opening | None = None
    ) -> Decision:
        now = self._kept.clock()
        kept = self._kept.users.get(uid)
        account = kept.doc if kept and user else None
        ledgers = self._ledgers(uid)
        decision = decide(
            Snapshot(
                ledger=ledgers.get(day),
                read_time=now,
                active=documents.active(account) if user else True,
                summary=await self.summary(uid, day) if summary else None,
                around={one: ledgers.get(one) for one in read_again(rests_on, account)},
            )
        )
        entry = decision.to_store(now)
        if entry is None:
            return decision
        place = self._kept.collection(uid, "recap_deliveries")
        stored = place.get(day.isoformat())
        self._kept.put(place, day.isoformat(), unknown_fields(stored.doc if stored else None) | ledger_to(entry))
        if decision.recap is not None:
            summaries = self._kept.collection(uid, "daily_summaries")
            self._kept.put(summaries, decision.recap.id, recap_to(decision.recap))
        return replace(decision, entry=entry)

    async def summary_document(self, uid: str, day: date, key: str = "") -> Doc | None:
        kept = self._kept.collection(uid, "daily_summaries")
        found = [kept[key].doc] if key in kept else [one.doc for one in kept.values()]
        return next((copy.deepcopy(doc) for doc in found if doc.get("date") == day.isoformat()), None)

    async def part(self, uid: str, day: date, key: str) -> tuple[Cited, ...] | None:
        kept = self._kept.collection(uid, f"recap_deliveries/{day}/recap_parts").get(key)
        return kept_from(Facts, kept.doc) if kept else None

    async def put_part(self, uid: str, day: date, key: str, facts: Sequence[Cited]) -> None:
        self._keep(uid, day, key, kept_to(Facts, tuple(facts), self._kept.clock() + PART_KEPT))

    async def kept_draft(self, uid: str, day: date, key: str) -> Draft | None:
        kept = self._kept.collection(uid, f"recap_deliveries/{day}/recap_parts").get(key)
        return kept_from(Draft, kept.doc) if kept else None

    async def keep_draft(self, uid: str, day: date, key: str, draft: Draft) -> None:
        self._keep(uid, day, key, kept_to(Draft, draft, self._kept.clock() + PART_KEPT))

    def _keep(self, uid: str, day: date, key: str, doc: Doc) -> None:
        account = self._kept.users.get(uid)
        if account is None or not documents.active(account.doc):
            return
        place = self._kept.collection(uid, f"recap_deliveries/{day}/recap_parts")
        self._kept.put(place, key, doc)

    async def all_users(self, after: str | None, limit: int) -> list[Listed]:
        return [self._listed(uid) for uid in sorted(uid for uid in self._kept.users if uid > (after or ""))[:limit]]

    async def ledgers_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, Ledger]]:
        owners = sorted(uid for uid, name in self._kept.below if name == "recap_deliveries" and uid > (after or ""))
        return [(uid, found[day]) for uid in owners if day in (found := self._ledgers(uid))][:limit]

    async def summaries_on(self, day: date, after: str | None, limit: int) -> list[tuple[str, str]]:
        uid, _, key = (after or "").rpartition("/")
        found = sorted(
            (owner, name)
            for (owner, collection), kept in self._kept.below.items()
            if collection == "daily_summaries"
            for name, one in kept.items()
            if one.doc.get("date") == day.isoformat()
        )
        return [one for one in found if one > (uid, key)][:limit]

    async def mend(self, uid: str, decided: Decided | None = None, *, write: bool = True) -> Mended:
        kept = self._kept.users.get(uid)
        told = mended(kept.doc, decided) if kept else Mended({})
        if kept and told.changes and write:
            new = {name: value for name, (_, value) in told.changes.items()}
            self._kept.put(self._kept.users, uid, kept.doc | new)
        return told

    async def put(
        self, uid: str, user: Mapping[str, Any], fcm_tokens: Mapping[str, Any], conversations: Mapping[str, Any]
    ) -> None:
        found = checked(uid, user, fcm_tokens, conversations)
        self._kept.put(self._kept.users, uid, dict(user))
        for name, collection in found.items():
            for key, doc in collection.items():
                self._kept.put(self._kept.collection(uid, name), key, dict(doc))

    async def remove(self, uid: str) -> None:
        self._kept.users.pop(uid, None)
        for owner, name in [*self._kept.below]:
            if owner == uid:
                del self._kept.below[owner, name]

    async def aclose(self) -> None:
        """Nothing is open."""


class MemoryWorld:
    """The documents as tests fill and read them: tests.support.worlds.World."""

    name = "memory"
    environment = ENVIRONMENT

    def __init__(self, clock: Clock = wall_clock, long_ago: datetime = datetime(2020, 1, 1, tzinfo=UTC)) -> None:
        self.documents = MemoryDocuments(clock)
        self._long_ago = long_ago

    def env(self) -> dict[str, str]:
        raise AssertionError("no other process sees what is in this one's memory")

    def put_user(self, uid: str, doc: Doc, tokens: Mapping[str, str], talks: Mapping[str, Doc]) -> None:
        self.documents.put(self.documents.users, uid, doc, self._long_ago)
        for key, token in tokens.items():
            self.put_token(uid, key, token)
        for key, one in talks.items():
            self.put_talk(uid, key, one)

    def update_user(self, uid: str, changes: Doc) -> None:
        self.documents.put(self.documents.users, uid, (self.user(uid) or {}) | changes)

    def delete_user(self, uid: str) -> None:
        self.documents.users.pop(uid, None)

    def user(self, uid: str) -> Doc | None:
        kept = self.documents.users.get(uid)
        return copy.deepcopy(kept.doc) if kept else None

    def _all(self, uid: str, name: str) -> dict[str, Doc]:
        return {key: copy.deepcopy(kept.doc) for key, kept in self.documents.collection(uid, name).items()}

    def tokens(self, uid: str) -> dict[str, Doc]:
        return self._all(uid, "fcm_tokens")

    def put_token(self, uid: str, key: str, token: str) -> None:
        self.put_device(uid, key, {"token": token})

    def put_device(self, uid: str, key: str, doc: Doc) -> None:
        self._put(uid, "fcm_tokens", key, doc)

    def ledgers(self, uid: str) -> dict[str, Doc]:
        return self._all(uid, "recap_deliveries")

    def summaries(self, uid: str) -> dict[str, Doc]:
        return self._all(uid, "daily_summaries")

    def put_summary(self, uid: str, key: str, doc: Doc) -> None:
        self._put(uid, "daily_summaries", key, doc)

    def delete_summary(self, uid: str, key: str) -> None:
        self.documents.collection(uid, "daily_summaries").pop(key, None)

    def put_ledger(self, uid: str, day: str, doc: Doc) -> None:
        self._put(uid, "recap_deliveries", day, doc)

    def delete_ledger(self, uid: str, day: str) -> None:
        self.documents.collection(uid, "recap_deliveries").pop(day, None)

    def put_talk(self, uid: str, key: str, doc: Doc) -> None:
        self._put(uid, "conversations", key, doc)

    def _put(self, uid: str, name: str, key: str, doc: Doc) -> None:
        self.documents.put(self.documents.collection(uid, name), key, doc)

    def close(self) -> None:
        """Nothing is open."""


class MemorySummarizer:
    """The Summarizer port: a recap, or a fact, that cites the first note; or what the script raises or answers."""

    where = "The summarizer in memory"
    named_by = "OPENAI_MODEL"
    model = "memory"

    def __init__(self) -> None:
        self.calls = 0
        self.tokens = 0
        self.rate_limits: Mapping[str, RateLimit] = {}
        self.asked: list[Question] = []
        self.worst: int | None = None
        self.script: Callable[[Question], Exception | Answer | str | None] = lambda question: None

    async def ask(self, question: Question, timeout: timedelta, *, cheap: bool = True) -> Answer:
        self.calls += 1
        self.asked.append(question)
        said = self.script(question)
        if isinstance(said, Exception):
            raise said
        if isinstance(said, Answer):
            return said
        self.tokens += 120
        return answered(said or json.dumps(answer_to(question.name, question.notes, "memory")))

    async def worst_cost(self, question: Question) -> int | None:
        return self.worst

    async def check(self) -> Checked:
        return Checked(found="answers")

    async def last_day(self) -> date | None:
        return None

    async def aclose(self) -> None:
        """Nothing is open."""


def answered(text: str, ended: ItemReason | None = None, micro_usd: int | None = 50) -> Answer:
    """An answer as the port has it."""
    return Answer(text, "memory", "default", Spent(1, 100, 0, 20, 0, micro_usd), ended)


class MemoryPush:
    """The Push port: what each token got, or what the script answers instead."""

    where = "The push service in memory"
    aside = ""

    def __init__(self) -> None:
        self.probed = 0
        self.says: PushAnswer = ACCEPTED  # to a probe
        self.gate: asyncio.Event | None = None  # which a probe waits for
        self.got: dict[str, list[Message]] = {}
        self.asked: list[str] = []
        self.script: Callable[[str], PushAnswer | Exception | None] = lambda token: None

    async def send(
        self, device: Device, message: Message, timeout: timedelta, leaves: Callable[[], None]
    ) -> PushAnswer:
        token = device.fid or device.token
        self.asked.append(token)
        said = self.script(token)
        if isinstance(said, Exception):
            raise said
        leaves()
        if said is not None:
            return said
        self.got.setdefault(token, []).append(message)
        return ACCEPTED

    async def probe(self) -> PushAnswer:
        self.probed += 1
        if self.gate is not None:
            await self.gate.wait()
        return self.says

    async def check(self) -> str:
        return ""

    async def aclose(self) -> None:
        """Nothing is open."""
