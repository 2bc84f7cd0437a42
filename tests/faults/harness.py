"""Faults at effects: a process is killed, frozen or cut off at its k-th message, never inside its code.

The fakes and two TCP proxies report every message that a run sends; a first run counts
them, and a sweep repeats it for every k. No failpoint is in the product.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

import pytest
from aiohttp import web
from google.cloud.firestore_v1 import types
from google.protobuf.message import DecodeError
from redis import Redis

from notifications.adapters.claims.redis import script
from notifications.domain import claim
from notifications.domain.claim_table import Verb
from notifications.domain.schedule import Slot, cohorts_between, tzdata_version
from tests.support.jobs import Finished, Job, Stage, complete_other_shards
from tests.support.servers import wait_for
from tests.support.worlds import FirestoreWorld

When = Literal["before", "after"]
Deed = Literal["kill", "freeze", "term", "hold", "cut", "down"]  # until thawed: hold, unanswered; down, cut off
SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "term": signal.SIGTERM, "hold": signal.SIGTERM}
PREFACE = 24  # bytes that open an HTTP/2 connection
DATA, HEADERS, END_STREAM = 0, 1, 0x1
COMMIT, CONVERSATIONS = "firestore commit", "firestore conversations"
MARKS = {b"collapse_id": COMMIT, b"conversations": CONVERSATIONS}  # what only these messages name

# So that a thawed run gives up no call by itself, however long it was frozen; its claim is gone by other means.
PATIENT = {
    "RECAP_USER_DEADLINE_SECONDS": "200",
    "RECAP_STORE_TIMEOUT_SECONDS": "200",
    "RECAP_SENDING_STALE_SECONDS": "210",
    "RECAP_USER_LEASE_SECONDS": "610",
}
PATIENCE_SECONDS = 150  # three of its store's time-outs
on_firestore = pytest.mark.parametrize("world", ["firestore"], indirect=True)  # where a commit is a message
on_sqlite = pytest.mark.parametrize("world", ["sqlite"], indirect=True)  # where the store makes no difference

# All numbers of the protocol scaled down together, but not below what a stalled machine takes for one push.
# Lease > deadline + push + 2 x store; stale > push + store.
SCALED = {
    "RECAP_USER_DEADLINE_SECONDS": "6",
    "RECAP_USER_LEASE_SECONDS": "18",
    "RECAP_PUSH_DEADLINE_SECONDS": "3",
    "RECAP_STORE_TIMEOUT_SECONDS": "4",
    "RECAP_SENDING_STALE_SECONDS": "7.2",
    "RECAP_SHARD_LEASE_SECONDS": "12",
    "RECAP_SHARD_RENEW_SECONDS": "3",
    "RECAP_SHARD_RETRY_MIN_SECONDS": "0.2",
    "RECAP_SHARD_RETRY_MAX_SECONDS": "6",
    "RECAP_ITEM_RETRY_SECONDS": "0.2",
    "RECAP_PROVIDER_RETRY_SECONDS": "0.2",
    "RECAP_PUSH_RETRY_SECONDS": "0.2",
    "RECAP_REFUSED_RETRY_SECONDS": "0.2",
    "RECAP_WATCHDOG_SECONDS": "300",  # up: a thawed process is otherwise killed by it, which is right
    "RECAP_CONCURRENCY": "1",
    "RECAP_START_GAP_SECONDS": "0.001",
}
MAX_TICKS = 20


@dataclass
class Director:
    """Sees every message of the run under test, and strikes at the one it was told."""

    trace: list[str] = field(default_factory=list)
    at: int | None = None
    named: tuple[str, int] | None = None  # a message by its name, and how many of that name to let pass
    victim: str = ""  # the source of the message that was struck
    when: When = "after"
    deed: Deed = "kill"
    process: Job | None = None
    struck: threading.Event = field(default_factory=threading.Event)
    thawed: threading.Event = field(default_factory=threading.Event)

    def aim(self, at: int | str | None, when: When, deed: Deed, nth: int = 0) -> None:
        """At the message of that number, or the nth of that name."""
        self.trace.clear()
        self.named = (at, nth) if isinstance(at, str) else None
        at = None if isinstance(at, str) else at
        self.at, self.when, self.deed = at, when, deed
        self.struck.clear()
        self.thawed.clear()

    async def message(self, source: str) -> int:
        index = len(self.trace)
        self.trace.append(source)
        if self.deed == "down" and self.struck.is_set() and source == self.victim and not self.thawed.is_set():
            raise ConnectionResetError
        if self.named is not None and source == self.named[0] and self.trace.count(source) > self.named[1]:
            self.at, self.named, self.victim = index, None, source
        if index == self.at and self.when == "before":
            await self._strike()
        return index

    async def answer(self, index: int) -> None:
        if index == self.at and self.when == "after":
            await self._strike()

    async def _strike(self) -> None:
        self.at = None
        process = self.process
        assert process is not None
        if how := SIGNALS.get(self.deed):
            os.kill(process.pid, how)
        self.struck.set()
        if self.deed in ("kill", "cut", "down"):
            raise ConnectionResetError
        if self.deed in ("freeze", "hold"):
            await asyncio.to_thread(self.thawed.wait)


class Proxy:
    """A TCP proxy in a thread of its own that reports the client's messages to the director."""

    def __init__(self, name: str, port: int, director: Director) -> None:
        self.name, self.target, self.director = name, port, director
        self.loop = asyncio.new_event_loop()
        self.links: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self._server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._ready.set()
        self.loop.run_forever()
        self._server.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0.01))
        self.loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, downstream = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self.links |= {writer, downstream}
        waiting: dict[int, int] = {}  # the index of the message that each stream waits for
        pumps = [
            asyncio.ensure_future(self.pump_client(reader, downstream, waiting)),
            asyncio.ensure_future(self.pump_server(upstream, writer, waiting)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.transport.abort()
            downstream.transport.abort()

    async def pump_client(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, waiting: dict[int, int]
    ) -> None:
        """Redis: at concurrency 1 each chunk is one message, and the next chunk back its answer."""
        while data := await source.read(65536):
            waiting[0] = await self.director.message(self.name)
            sink.write(data)

    async def pump_server(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, waiting: dict[int, int]
    ) -> None:
        while data := await source.read(65536):
            if 0 in waiting:
                await self.director.answer(waiting.pop(0))
            sink.write(data)

    def cut_all(self) -> None:
        """Abort every connection, as a server that dies does."""
        for link in self.links:
            self.loop.call_soon_threadsafe(link.transport.abort)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)


class Http2Proxy(Proxy):
    """Firestore: a message is a DATA frame of the client; its answer the first one back, or a refusal's HEADERS.

    `transactions` are those that the server began: what a stopped run leaves open is rolled back.
    """

    def __init__(self, name: str, port: int, director: Director) -> None:
        self.transactions: set[bytes] = set()
        super().__init__(name, port, director)

    async def pump_client(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, waiting: dict[int, int]
    ) -> None:
        sink.write(await source.readexactly(PREFACE))
        while True:
            kind, stream, frame = await _frame(source)
            if kind == DATA and len(frame) > 9:
                name = next((name for mark, name in MARKS.items() if mark in frame), self.name)
                waiting[stream] = await self.director.message(name)
            sink.write(frame)

    async def pump_server(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, waiting: dict[int, int]
    ) -> None:
        while True:
            kind, stream, frame = await _frame(source)
            if kind == DATA and (transaction := _begun(frame[9:])):
                self.transactions.add(transaction)
            ends = kind == HEADERS and frame[4] & END_STREAM
            if (kind == DATA or ends) and stream in waiting:
                await self.director.answer(waiting.pop(stream))
            sink.write(frame)


async def _frame(source: asyncio.StreamReader) -> tuple[int, int, bytes]:
    head = await source.readexactly(9)
    length, kind, stream = int.from_bytes(head[:3]), head[3], int.from_bytes(head[5:9]) & 0x7FFFFFFF
    return kind, stream, head + await source.readexactly(length)


def _begun(data: bytes) -> bytes:
    """The transaction that a server's first gRPC message opens: 5 bytes of prefix, then the message."""
    message = data[5 : 5 + int.from_bytes(data[1:5])]
    try:
        return bytes(types.BatchGetDocumentsResponse.pb().FromString(message).transaction)
    except DecodeError:
        return b""


class FaultStage:
    """A stage behind proxies, with a director, and one shard to serve."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        stage.preloaded = True
        self.director = Director()
        self.proxies = [Proxy("redis", stage.redis.port, self.director)]
        stage.settings |= SCALED
        if isinstance(stage.world, FirestoreWorld):
            self.proxies.append(Http2Proxy("firestore", int(stage.world.host.rpartition(":")[2]), self.director))
        stage.llm.script, stage.fcm.script, stage.fcm.after = self._llm, self._fcm, self._fcm_after
        self.llm_rule: Callable[[str], Awaitable[web.Response | None]] | None = None
        self.fcm_rule: Callable[[str], Awaitable[web.Response | None]] | None = None
        self._pushing: dict[str, int] = {}
        self.slots: dict[str, Slot] = {}
        self.under_test: dict[str, str] = {}  # settings of the run that is struck, and of no other

    async def _llm(self, who: str) -> web.Response | None:
        index = await self.director.message(f"llm {who}")
        answer = await self.llm_rule(who) if self.llm_rule else None
        await self.director.answer(index)
        return answer

    async def _fcm(self, token: str) -> web.Response | None:
        self._pushing[token] = await self.director.message(f"fcm {token}")
        return await self.fcm_rule(token) if self.fcm_rule else None

    async def _fcm_after(self, token: str) -> web.Response | None:
        await self.director.answer(self._pushing.pop(token))
        return None

    def behind_proxies(self) -> dict[str, str]:
        env = {"REDIS_URL": f"redis://127.0.0.1:{self.proxies[0].port}/0"}
        if len(self.proxies) > 1:
            env["FIRESTORE_EMULATOR_HOST"] = f"127.0.0.1:{self.proxies[1].port}"
        return env

    def redis(self) -> Redis:
        return Redis(port=self.stage.redis.port)

    def learn_scripts(self) -> None:
        """Redis learns the scripts, so that from now on each verb is one message."""
        with self.redis() as client:
            for verb in Verb:
                client.script_load(script(verb)[0])

    def settle_in_real_time(self, seconds: float = 60) -> None:
        """As `run_until_settled`, but nothing ages: an open delivery is taken only once it is stale."""
        deadline = time.monotonic() + seconds
        while self.open_shards():
            assert time.monotonic() < deadline, "not settled"
            finished = self.stage.run()
            assert finished.code in (0, 4, 5), finished.err
            wait_for(self._due_again, "due shard")

    def add_users(self, *uids: str, devices: int = 1, **changes: Any) -> None:
        """Users of one cohort. Every other shard counts as complete, so that each message matters."""
        for uid in uids:
            self.slots[uid] = self.stage.add_user(uid, devices=devices, **changes)
        self.complete_other_shards()

    def anew(self, *uids: str) -> None:
        """The same servers, these users, and nothing done yet."""
        self.wait_for_locks()
        with self.redis() as client:
            client.flushall()
        for uid, slot in self.slots.items():
            self.stage.world.delete_summary(uid, slot.recap_date.isoformat())
            self.stage.world.delete_ledger(uid, slot.recap_date.isoformat())
        for counted in (self.stage.llm.calls, self.stage.fcm.asked, self.stage.fcm.accepted, self.stage.fcm.phones):
            counted.clear()
        self.slots.clear()
        self.add_users(*uids)

    def complete_other_shards(self) -> None:
        hours = {self.stage.world.user(uid)["daily_summary_hour_local"] for uid in self.slots}  # type: ignore[index]
        at = {slot.at for slot in self.slots.values()}
        with self.redis() as client:
            complete_other_shards(client, at, hours)

    def complete_other_shards_of_nobody(self) -> None:
        """Every due shard counts as served."""
        with self.redis() as client:
            complete_other_shards(client, set(), set())

    def start(self, *arguments: str) -> Job:
        process = self.stage.start(*arguments, **self.behind_proxies(), **self.under_test)
        self.director.process = process
        return process

    def count(self) -> list[str]:
        """The messages of one whole run without a fault."""
        self.director.aim(None, "after", "kill")
        finished = self.stage.end(self.start())
        assert finished.code == 0, finished.err
        return list(self.director.trace)

    def strike(self, at: int | str, when: When = "after", deed: Deed = "kill", *arguments: str, nth: int = 0) -> Job:
        """Start a run and wait until it was struck (a sweep's run may end without reaching that number)."""
        self.director.aim(at, when, deed, nth)
        process = self.start(*arguments)
        wait_for(lambda: self.director.struck.is_set() or process.poll() is not None, "strike", 60)
        assert isinstance(at, int) or self.director.struck.is_set(), self.stage.end(process).err
        return process

    def thaw(self, process: Job) -> Finished:
        process.send_signal(signal.SIGCONT)
        self.director.thawed.set()
        finished = self.stage.end(
            process, PATIENCE_SECONDS
        )  # it may have hung up on a server that still deals with its message
        wait_for(lambda: not self.stage.llm.busy and not self.stage.fcm.busy, "end of the held message")
        return finished

    def age(self, by: timedelta = timedelta(minutes=12), *, sent: bool = False) -> None:
        """Let time pass for what the dead left behind: leases, due times and `sending_at` move back."""
        self.wait_for_locks()
        with self.redis() as client:
            for key in client.scan_iter("*"):
                if client.type(key) != b"string":
                    continue
                record = claim.parse(client.get(key))
                if record.state in (claim.Stored.CLAIMED, claim.Stored.IDLE):
                    u = max(0, record.until - int(by.total_seconds() * 1000))
                    aged = {"s": record.state, "t": record.token, "u": u, "f": record.failures, "c": record.crashes}
                    client.set(key, json.dumps(aged), keepttl=True)
        for uid in self.slots:
            for day, ledger in self.stage.world.ledgers(uid).items():
                if ledger["state"] in ("sending", "pending") and "sending_at" in ledger:
                    older = ledger | {"sending_at": ledger["sending_at"] - by}
                    self.stage.world.put_ledger(uid, day, older)
                if sent and ledger["state"] == "sent":
                    self.stage.world.put_ledger(uid, day, ledger | {"sent_at": ledger["sent_at"] - by})

    def wait_for_locks(self) -> None:
        """A stopped run's transaction holds its locks until Firestore drops it, after a minute: done here at once.

        Its commit is answered alike after a roll-back and after that minute.
        """
        for proxy in self.proxies:
            if isinstance(proxy, Http2Proxy) and isinstance(self.stage.world, FirestoreWorld):
                while proxy.transactions:
                    self.stage.world.roll_back(proxy.transactions.pop())
        for uid in self.slots:
            wait_for(partial(self._writable, uid), "end of a dead transaction", 120)

    def _writable(self, uid: str) -> bool:
        from google.api_core.exceptions import Aborted

        user = self.stage.world.user(uid)
        try:
            for day, ledger in self.stage.world.ledgers(uid).items():
                self.stage.world.put_ledger(uid, day, ledger)
            self.stage.world.update_user(uid, {"time_zone": (user or {}).get("time_zone")})
        except Aborted:
            return False
        return True

    def _due_again(self) -> bool:
        """Whether no shard of ours rests: the next run has something to do, or nothing at all."""
        with self.redis() as client:
            seconds, micros = client.time()
            now = seconds * 1000 + micros // 1000
            records = [claim.parse(client.get(key)) for key in client.scan_iter("daily_summary:*")]
        return not any(record.state is claim.Stored.IDLE and record.until > now for record in records)

    def open_shards(self) -> bool:
        """Whether a run would still find something to do for our users' shard."""
        at = {slot.at for slot in self.slots.values()}
        now = datetime.now(UTC)
        with self.redis() as client:
            for cohort in cohorts_between(now - timedelta(hours=3), now):
                key = claim.shard_key(cohort.slot, cohort.hour, tzdata_version(), 0, 1)
                if cohort.slot in at and claim.parse(client.get(key)).state is not claim.Stored.COMPLETE:
                    return True
        return False

    def run_until_settled(self, *, aging: bool = True) -> int:
        """Run until every shard is complete; the number of ticks that it took."""
        self.director.at = self.director.named = None
        finished = None
        for ticks in range(1, MAX_TICKS + 1):
            if aging:
                self.age()
            finished = self.stage.run()
            assert finished.code in (0, 4, 5), finished.err
            if not self.open_shards():
                return ticks
        raise AssertionError(f"not settled after {MAX_TICKS} ticks: {finished and finished.err}")

    # --- what is compared at the end ---------------------------------------------

    def ledger(self, uid: str) -> dict[str, Any]:
        ledgers = self.stage.world.ledgers(uid)
        assert list(ledgers) in ([], [self.slots[uid].recap_date.isoformat()])
        return next(iter(ledgers.values()), {})

    def pushes(self) -> dict[str, int]:
        return dict(self.stage.fcm.accepted)

    def check_delivered(
        self, *, twice: frozenset[str] = frozenset(), llm: dict[str, int] | None = None, point: object = None
    ) -> None:
        """Every user: one stored text, one visible push, ledger and claim sent; these tokens pushed twice."""
        world, fcm = self.stage.world, self.stage.fcm
        tokens = {one["token"]: uid for uid in self.slots for one in world.tokens(uid).values()}
        assert self.pushes() == {token: 2 if token in twice else 1 for token in tokens}, point
        for token, uid in tokens.items():
            phone = fcm.phones[token]
            ledger = self.ledger(uid)
            assert (ledger["state"], self.stage.record(uid, self.slots[uid]).state) == ("sent", claim.Stored.SENT)
            assert phone.visible == {ledger["collapse_id"]: ledger["body"]}
            assert set(phone.bodies) == {ledger["body"]}
            [summary] = world.summaries(uid).values()
            assert summary["overview"].startswith(ledger["body"][:40].rstrip("…"))
        expected = dict.fromkeys(self.slots, 1) | (llm or {})
        assert dict(self.stage.llm.calls) == expected, point

    def stop(self) -> None:
        self.director.thawed.set()
        for proxy in self.proxies:
            proxy.stop()


@dataclass(frozen=True)
class Windows:
    """Where in a run's trace one user's LLM call is paid again, and its push repeated.

    `llm` and `push` are for a run that stops after a message. A run that freezes while another
    does the day also pays where it had just seen no summary: `llm_frozen` after a message,
    `llm_held` and `push_held` before it.
    """

    llm: range
    push: range
    llm_frozen: range
    llm_held: range
    push_held: range


def windows(trace: list[str], uid: str, token: str) -> Windows:
    """From the LLM call to the commit of begin; from FCM's answer to the commit of report.

    SQLite commits between two visible messages, so there each window is one message long.
    """
    asked = trace.index(f"llm {uid}")
    pushed = trace.index(f"fcm {token}")
    if "firestore" not in trace:
        llm, push = range(asked, asked + 1), range(pushed, pushed + 1)
        return Windows(llm, push, llm, llm, push)
    begun = max(n for n in range(pushed) if trace[n] == COMMIT)
    reported = min(n for n in range(pushed, len(trace)) if trace[n] == COMMIT)
    read = max(n for n in range(asked) if trace[n] == CONVERSATIONS)  # the look-up for a summary came just before
    return Windows(
        llm=range(asked, begun),
        push=range(pushed, reported),
        llm_frozen=range(read - 1, begun),
        llm_held=range(read, begun + 1),
        push_held=range(pushed, reported + 1),
    )
