"""Several runs over one user's day, step by step: each call to Redis, the store or a channel waits until it is let go.

A history is what `choose` decides: who goes on, what a receiver answers, whose reply is lost, who is killed, how time
goes by. All of it is the job's own code; the rules that it is held to are here, in words of the protocol.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random
from typing import Any, TypeVar

from notifications.commands.resend import open_day
from notifications.domain.claim import SINGLE_FILE_LANE
from notifications.domain.delivery import Decision, NextStep
from notifications.domain.errors import RecapError, StoreDown
from notifications.domain.model import DayState, Ledger, User
from notifications.domain.push import ACCEPTED, PushAnswer, PushResult
from notifications.domain.recording import PushReport
from notifications.domain.schedule import Phase
from notifications.domain.target import Recipient, Target
from notifications.ports import Channel
from notifications.run.state import Run
from notifications.run.sweep import sweep
from notifications.run.termination import Termination
from notifications.run.user import claim_and_recap
from notifications.testing import MemoryPush
from tests.support.evening import Evening

T = TypeVar("T")
DAY = date(2026, 5, 1)
STALE = timedelta(seconds=120)
STORE_VERBS = ("ledgers_between", "devices", "begin", "take", "record_pushes", "sweep", "resend", "end_day")
CLAIM_VERBS = ("claim", "complete", "fail")


class Killed(BaseException):
    """The process is no more."""


class Defect(Exception):
    """A bug of a channel's."""


ANSWERS: dict[str, tuple[bool, PushAnswer | Exception]] = {  # whether the receiver took it; what is answered
    "accepted": (True, ACCEPTED),
    "gone": (False, PushAnswer(PushResult.GONE, "410")),
    "refused": (False, PushAnswer(PushResult.REFUSED, "400")),
    "busy": (False, PushAnswer(PushResult.BUSY, "503", timedelta(minutes=7))),
    "busy for long": (False, PushAnswer(PushResult.BUSY, "429", timedelta(hours=3))),
    "lost": (True, PushAnswer(PushResult.UNKNOWN, "cut")),
    "unknown": (False, PushAnswer(PushResult.UNKNOWN, "cut")),
    "unsent": (False, PushAnswer(PushResult.UNSENT, "connect")),
    "wrong key": (False, PushAnswer(PushResult.BUSY, "401", config=True, says="refuses the key")),
    "no text": (False, StoreDown("read", "Away.")),
    "defect": (False, Defect()),
}


@dataclass(eq=False)
class Sender:
    """One process at work on the day."""

    name: str
    run: Run
    task: asyncio.Task[None] | None = None
    waiting: list[asyncio.Future[str]] = field(default_factory=list)
    asks: dict[asyncio.Future[str], str] = field(default_factory=dict)
    dead: bool = False
    opened: Ledger | None = None  # what it took, until it recorded
    opened_at: Any = None  # when
    is_over: bool = False  # a sweep that won its claim after the grace: it ends the day, and sends nothing
    closed: set[str] = field(default_factory=set)  # channels that said that the job's key is wrong
    began_at: int = 0  # the number of writes when it took the ledger
    asked_at: Any = None  # when it asked Redis for the claim; then, when it asked the store for the fence
    late_by: timedelta = timedelta(0)  # the reply: its clock is ahead by that


@dataclass
class Delivered:
    """A recap that a receiver took."""

    sender: Sender
    is_answered: bool
    opened_at: Any


class Gated(Channel):
    """A channel of one process, whose answers the history decides."""

    alerts = True
    aside = ""

    def __init__(self, inner: MemoryPush, sender: Callable[[], Sender], history: History) -> None:
        self.name, self.where, self.has_addresses = inner.name, inner.where, inner.has_addresses
        self._inner, self._sender, self._history = inner, sender, history

    def targets(self, recipient: Recipient) -> tuple[list[Target], list[str]]:
        return self._inner.targets(recipient)

    async def check(self) -> str:
        return ""

    async def aclose(self) -> None:
        """Nothing is open."""

    async def send(self, target: Target, message: Any, timeout: timedelta, leaves: Callable[[], None]) -> PushAnswer:
        history, sender = self._history, self._sender()
        history.hold(history.check_sent, sender, target, message.seq)
        how = await history.gate(sender, f"send {target.address}")
        takes, answer = ANSWERS[how]
        if how == "wrong key":
            sender.closed.add(self.name)
        if how == "no text":
            raise StoreDown("read", "Away.")
        if how != "unsent":
            leaves()
        if takes:
            history.hold(history.deliver, sender, target, message.seq, how == "accepted")
        if isinstance(answer, Exception):
            raise answer
        return answer


class GatedCalls:
    """A store or Redis as one process sees it."""

    def __init__(self, inner: Any, verbs: Sequence[str], sender: Callable[[], Sender], history: History) -> None:
        self._inner, self._verbs, self._sender, self._history = inner, verbs, sender, history

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)
        if name not in self._verbs:
            return call
        return lambda *args, **named: self._history.call(self._sender(), name, call, args, named)


class History:
    """One user's day under several processes. `choose` picks one of a list."""

    def __init__(self, random: Random, store: Callable[[Evening], Any] | None = None) -> None:
        self.random = random
        self.evening = Evening(store_timeout_seconds=60)
        self.evening.with_all_channels()
        if store is not None:
            self.evening.store = store(self.evening)
        self.senders: list[Sender] = []
        self.numbers = itertools.count()
        self.delivered: dict[tuple[str, int], list[Delivered]] = {}
        self.accepted_at: dict[tuple[str, int], int] = {}  # the write that stored it
        self.took_at_last: list[tuple[str, int]] = []  # in the calm
        self.writes = 0
        self.owing: set[str] = set()  # senders that took the ledger and did not give their try back
        self.channel_of: dict[str, str] = {}
        self.trace: list[str] = []
        self.frozen: list[asyncio.Future[str]] = []  # they go on when nobody else does
        self.calm = False
        self.answer_of: dict[str, str] = {}  # in the calm, by address
        self.broken: AssertionError | None = None  # a rule: the job would take it for a defect of one user's
        self._add_user()

    # the world

    def choose(self, options: Sequence[T]) -> T:
        return options[0] if len(options) == 1 else self.random.choice(options)

    def chance(self, one_in: int) -> bool:
        return self.random.randrange(one_in) == one_in - 1

    def _add_user(self) -> None:
        address = {"recap_webhook_url": "https://a.example", "recap_webhook_secret": "s", "recap_email": "a@b.example"}
        taken = self.choose([(2, 3), (1, 3), (2, 0), (0, 3), (1, 1)])
        channels = [[], ["recap_webhook_url", "recap_webhook_secret"], ["recap_email"], list(address)][taken[1]]
        fields: dict[str, Any] = {name: address[name] for name in channels}
        self.evening.add("ann", devices=taken[0], **fields)
        self.say("targets", *taken)
        if self.chance(4):
            self._put_first_versions()

    def _put_first_versions(self) -> None:
        """A ledger that version 1.0 left."""
        tries = self.choose([0, 1, 2, 3])
        doc = {"state": "pending", "by": "first", "date": str(DAY), "seq": 1, "tries": tries, "title": "T", "body": "B"}
        doc |= {"collapse_id": "c", "summary_id": "s", "window_end": self.evening.slots["ann"].at}
        doc |= {"window_start": self.evening.slots["ann"].back(1), "sending_at": self.evening.now - 2 * STALE}
        self.evening.world.put_ledger("ann", str(DAY), doc | {"devices": {}})
        self.owing = {f"first {n}" for n in range(tries)}
        self.say("by 1.0", tries)

    def say(self, *words: object) -> None:
        self.trace.append(f"{self.evening.now:%H:%M:%S} " + " ".join(map(str, words)))

    @property
    def ledger(self) -> Ledger | None:
        found: Ledger | None = self.evening.store._ledgers("ann").get(DAY)
        return found

    # the gates

    async def gate(self, sender: Sender, what: str) -> str:
        """Wait until the history lets this call go; it says how."""
        if sender.dead:
            raise Killed
        if what in ("claim", "begin", "take", "sweep"):
            sender.asked_at = self.evening.now
        going = asyncio.get_running_loop().create_future()
        sender.waiting.append(going)
        sender.asks[going] = what
        how: str = await going
        return how

    async def call(self, sender: Sender, name: str, call: Any, args: Any, named: Any) -> Any:
        how = await self.gate(sender, name)
        if how == "fails":
            raise StoreDown("store", "Away.")
        before = self.ledger
        answer = await call(*args, **named)
        if name == "claim":
            sender.late_by = self.evening.now - sender.asked_at
            phase = self.evening.limits.rules.phase(self.evening.slots["ann"].at, self.evening.now)
            sender.is_over = phase is Phase.OVER and "sweep" in sender.name
        if name in STORE_VERBS[2:]:
            self.hold(self.check_write, sender, name, before, answer, args)
        if how == "reply lost":
            raise StoreDown("store", "The reply is lost.")
        return answer

    def release(self, sender: Sender, going: asyncio.Future[str], how: str) -> None:
        what = sender.asks.pop(going)
        sender.waiting.remove(going)
        self.say(sender.name, what, how)
        going.set_result(how)

    async def settle(self) -> None:
        """Let everybody run until the next gate."""
        loop: Any = asyncio.get_running_loop()
        await asyncio.sleep(0)
        while loop._ready:  # noqa: ASYNC110 - whoever can go on, does; there is no event for that
            await asyncio.sleep(0)
        if self.broken is not None:
            raise self.broken
        for sender in [sender for sender in self.senders if sender.task is not None and sender.task.done()]:
            self.senders.remove(sender)
            if not sender.dead and sender.task is not None:
                sender.task.result()

    # what happens

    async def live(self, steps: int) -> None:
        for _ in range(steps):
            await self.step()
        await self.kill_all()

    async def kill_all(self) -> None:
        for sender in [*self.senders]:
            await self.kill(sender)

    async def step(self) -> None:
        going = [(sender, one) for sender in self.senders for one in sender.waiting]
        awake = [pair for pair in going if pair[1] not in self.frozen]
        is_idle = not awake and (not going or self.random.randrange(4) > 0)
        if (is_idle and self.choose([True, False])) or (len(self.senders) < 4 and self.chance(10)):
            others = ["resend", "resend"] if going and is_idle else ["turn", "turn", "turn", "sweep", "sweep"]
            self.start(self.choose(["turn", *others, "resend", "resend each"]))
        elif is_idle or self.chance(8):
            self.turn_the_world()
        else:
            sender, one = self.choose(awake or going)
            is_late = sender.asks[one] == "record_pushes" and one not in self.frozen and self.chance(3)
            if is_late:  # another run overtakes it
                self.frozen.append(one)
                self.overtake()
            elif self.chance(16):
                await self.kill(sender)
            else:
                self.release(sender, one, self.how(sender.asks[one]))
        await self.settle()

    def how(self, what: str) -> str:
        verb, _, address = what.partition(" ")
        if verb == "send":
            if self.calm:
                return self.answer_of.setdefault(address, self.choose([*["accepted"] * 4, *ANSWERS]))
            return self.choose(["accepted", "accepted", *ANSWERS])
        if self.calm or verb in CLAIM_VERBS or not self.chance(8):
            return "done"
        return self.choose(["reply lost", "fails"])

    async def kill(self, sender: Sender) -> None:
        self.say("killed:", sender.name)
        sender.dead = True
        for going in sender.waiting:
            going.set_exception(Killed())
        sender.waiting.clear()
        if sender.task is not None:
            await asyncio.gather(sender.task, return_exceptions=True)
        if sender in self.senders:
            self.senders.remove(sender)

    def turn_the_world(self) -> None:
        evening = self.evening
        deed = self.choose(
            ["minute", "minute", "stale", "stale", "ten", "late", "redis", "redis", "user", "user", "due"]
        )
        self.say("the world:", deed)
        spans = {"minute": 61, "stale": 125, "ten": 605, "late": 3600}
        if deed == "overtaken":
            self.overtake()
        elif deed in spans:
            evening.now += timedelta(seconds=spans[deed])
        elif deed == "redis":
            evening.redis.values.clear()
        elif deed == "user":
            self.change_user()
        elif (found := self.ledger) is not None and found.targets:
            wrong = self.choose([timedelta(hours=-2), timedelta(hours=9)])
            doc = evening.world.ledgers("ann")[str(DAY)]
            for kept in doc["targets"].values():
                kept["due"] = kept["due"] and kept["due"] + wrong
            evening.world.put_ledger("ann", str(DAY), doc)

    def overtake(self) -> None:
        """Whoever works on the day is frozen until its claim is gone; another comes."""
        self.evening.redis.values.clear()
        self.evening.now += timedelta(seconds=self.choose([5, 125, 125]))
        self.say("overtaken")
        self.start(self.choose(["turn", "turn", "sweep", "resend", "resend each"]))

    def change_user(self) -> None:
        world, how = (
            self.evening.world,
            self.choose(["no phone", "no phone", "a phone", "moved", "no mail", "off", "on"]),
        )
        if how == "no phone":
            world.documents.collection("ann", "fcm_tokens").pop("d0", None)
        elif how == "a phone":
            world.put_token("ann", f"d{next(self.numbers)}", f"new-{next(self.numbers)}")
        elif how in ("off", "on"):
            world.update_user("ann", {"daily_summary_enabled": how == "on"})
        else:
            address = f"{next(self.numbers)}@b.example" if how == "moved" else None
            world.update_user("ann", {"recap_email": address})

    def start(self, what: str) -> None:
        evening = self.evening
        inner = evening.services
        name = f"{what} {next(self.numbers)}"
        sender: Sender

        def its() -> Sender:
            return sender

        services = replace(
            inner,
            store=GatedCalls(evening.store, STORE_VERBS, its, self),
            claims=GatedCalls(evening.claims, CLAIM_VERBS, its, self),
            channels=tuple(Gated(channel, its, self) for channel in evening.channels),  # type: ignore[arg-type]
        )
        sender = Sender(name, Run(services, terminated=Termination()))
        self.say("started:", name)
        sender.task = asyncio.create_task(self._work(sender, what))
        self.senders.append(sender)

    async def _work(self, sender: Sender, what: str) -> None:
        run, slot = sender.run, self.evening.slots["ann"]
        listed = await self.evening.store.user_document("ann")
        if what == "sweep":
            await sweep(run, self.evening.now)
        elif what == "turn":
            phase = self.evening.limits.rules.phase(slot.at, self.evening.now)
            if listed.user.enabled and phase in (Phase.DUE, Phase.CLOSING):
                await claim_and_recap(run, listed.user, slot, SINGLE_FILE_LANE)
        else:
            await self._resend(run, listed.user, listed, again=what == "resend")

    async def _resend(self, run: Run, user: User, listed: Any, *, again: bool) -> None:
        try:
            opened = await open_day(run, listed, DAY, again=again)
        except RecapError:
            return
        replaces = opened.decision.ledger if opened.decision.step is NextStep.FINAL else None
        await claim_and_recap(run, user, opened.slot, SINGLE_FILE_LANE, replaces=replaces, resend=True)

    # the rules

    def hold(self, rule: Callable[..., None], *facts: Any) -> None:
        try:
            rule(*facts)
        except AssertionError as broken:
            self.broken = self.broken or broken

    def deliver(self, sender: Sender, target: Target, seq: int, is_answered: bool) -> None:
        """A receiver takes a recap: a second one only as section 7 has it."""
        key = (target.id, seq)
        for before in self.delivered.get(key, []):
            frozen = self.evening.now - before.opened_at >= STALE
            assert before.sender.dead or not before.is_answered or frozen, f"{target.address} got it again"
        if self.calm and is_answered:
            self.took_at_last.append(key)
        self.delivered.setdefault(key, []).append(Delivered(sender, is_answered, sender.opened_at))

    def check_sent(self, sender: Sender, target: Target, seq: int) -> None:
        self.channel_of[target.id] = target.channel
        assert sender.opened is not None, "nothing is sent without the fence"
        assert sender.opened.seq == seq, "it is sent for another resend"
        assert not sender.is_over, "its slot is over"
        assert target.channel not in sender.closed, "its channel is closed"
        assert self.evening.now - sender.asked_at <= timedelta(seconds=30), "the push deadline is over"
        kept = sender.opened.targets.get(target.id)
        wait = kept.due - self.evening.now if kept is not None and kept.due is not None else timedelta(0)
        assert not sender.late_by < wait <= timedelta(minutes=30), "it was not due"
        assert self.accepted_at.get((target.id, seq), self.writes + 1) > sender.began_at, "it was stored that it has it"

    def check_write(self, sender: Sender, verb: str, before: Ledger | None, answer: Decision, args: Any) -> None:
        after = self.ledger
        self.writes += after != before
        if answer.step is NextStep.PUSH and verb != "record_pushes":
            sender.opened, sender.opened_at, sender.began_at = answer.ledger, self.evening.now, self.writes
            if (
                answer.write
                and before is not None
                and before.state is DayState.SENDING
                and before.sending_at is not None
            ):
                assert self.evening.now - before.sending_at >= STALE, "a fresh sender is overtaken"
        if after is None:
            return
        if before is not None and before.seq == after.seq:
            self._check_kept(before, after)
        elif before is not None:
            self.owing = set()
        if answer.step is NextStep.PUSH and answer.write and after.state is DayState.SENDING:
            self.owing.add(sender.name)
        if verb == "record_pushes":
            self._check_recorded(sender, before, after, args[2])
        self._check_state(after)
        for name, result in after.devices.items():
            if result == "accepted":
                self.accepted_at.setdefault((name, after.seq), self.writes)
                assert (name, after.seq) in self.delivered or before is None or name in before.devices, "nobody took it"

    def _check_kept(self, before: Ledger, after: Ledger) -> None:
        """What is known of a delivery is never taken back."""
        reached = {name for name, result in before.devices.items() if result == "accepted"}
        assert all(after.devices.get(name) == "accepted" for name in reached), "a target has it no more"
        if before.state is DayState.SENT:
            assert after == before, "sent is never taken back"
        if before.state.final:
            assert after.state.final, "an ended day is open again"

    def _check_recorded(self, sender: Sender, before: Ledger | None, after: Ledger, report: PushReport) -> None:
        """A try without an answer is charged to its target alone, and once; a sender that records is alive."""
        assert before is not None
        is_its = before.seq == report.seq and before.by == report.by and before.state is DayState.SENDING
        if not is_its:
            left = {name: kept for name, kept in before.targets.items() if name not in after.devices}
            assert after.targets in (left, {}), "a late sender changes who waits"
            late = {after.devices[name] for name in after.devices.keys() - before.devices.keys()}
            assert late <= {"accepted", "gone", "refused"} or after.is_partial, "a late sender gives a target up"
            assert after == before or before.seq == report.seq, "it is recorded for another resend"
            return
        self.owing.discard(sender.name)
        has_it = [name for name, one in report.results.items() if one.result is PushResult.ACCEPTED]
        reached = {self.channel_of.get(name) for name in has_it}
        refused = [name for name, one in report.results.items() if one.result is PushResult.REFUSED]
        waits = [name for name in refused if name in after.targets and self.channel_of.get(name) in reached]
        assert not waits, "refused, and its channel reached another"
        for name, kept in after.targets.items():
            charged = report.results[name].result is PushResult.UNKNOWN
            was = before.targets[name].tries if name in before.targets else 0
            assert kept.tries == was + charged, "a try is charged to another"
            assert kept.tries < 3, "a fourth try"
            assert kept.due is not None
            assert kept.due - self.evening.now <= timedelta(minutes=30) + sender.late_by, "due too late"

    def _check_state(self, ledger: Ledger) -> None:
        results = Counter(ledger.devices.values())
        assert not (ledger.state.final and ledger.targets), "an ended day waits for nobody"
        assert not ledger.targets.keys() & ledger.devices.keys(), "an ended target is still open"
        if ledger.state is DayState.GAVE_UP:
            assert not results["accepted"], "given up, though a target has it"
        if ledger.state is DayState.SENT:
            assert not ledger.is_partial or results["accepted"], "partly sent to nobody"
            assert not results["gave_up"] or ledger.is_partial, "a target was given up"
            assert ledger.outcome != "no_devices" or not results["accepted"]
        if ledger.state.open:
            assert ledger.tries == len(self.owing), f"{ledger.tries} tries, and {self.owing} died"
            assert ledger.tries <= 3
        for name, result in ledger.devices.items():
            channel = self.channel_of.get(name)
            peers = [
                one for one, it in ledger.devices.items() if it == "accepted" and self.channel_of.get(one) == channel
            ]
            assert result != "refused" or peers, "refused for good, though its channel reached nobody"

    async def calm_down(self) -> None:
        """No more faults: turns and sweeps as the scheduler would start them. Then the day has ended."""
        self.calm = True
        self.evening.now += timedelta(minutes=13)  # leases lapse
        over = self.evening.limits.rules.service_end(self.evening.slots["ann"].at)
        end = max(over, self.evening.now) + timedelta(hours=2)
        while True:
            found = self.ledger
            if found is not None and found.state.final:
                took = [name for name, seq in self.took_at_last if seq == found.seq]
                assert {found.devices[name] for name in took} <= {"accepted"}, "what was answered is stored"
                return
            is_resend = found is not None and found.outcome == "resend"
            is_over = self.evening.now > over
            if self.evening.now > end:
                enabled = (await self.evening.store.user_document("ann")).user.enabled
                assert found is None or (is_resend and not enabled), f"nobody ends {found}"
                return
            if is_resend:
                self.answer_of = dict.fromkeys(self.answer_of, "accepted")
                self.start("resend each")
            else:
                self.start("sweep" if is_over else "turn")
            while self.senders:
                for sender in self.senders:
                    for one in [*sender.waiting]:
                        self.release(sender, one, self.how(sender.asks[one]))
                await self.settle()
            self.evening.now += timedelta(minutes=11 if is_over or is_resend else 4)


async def lived(random: Random, steps: int, store: Callable[[Evening], Any] | None = None) -> History:
    history = History(random, store)
    try:
        await history.live(steps)
        await history.calm_down()
    except BaseException as raised:
        raised.add_note("\n".join(history.trace))
        raise
    finally:
        await history.kill_all()
    return history
