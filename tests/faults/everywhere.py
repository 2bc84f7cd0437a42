"""A stage whose users have a phone, a webhook and a mailbox; the three are served one after the other."""

# ruff: noqa: N802 - aiosmtpd names the methods
from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

from notifications.recap.document import text_hash, text_to_deliver
from tests.faults.director import Director
from tests.faults.proxies import COMMIT
from tests.faults.stage import FaultStage
from tests.faults.windows import windows
from tests.support.jobs import Finished, Job, Stage
from tests.support.mail_servers import MailServer, parsed
from tests.support.servers import wait_for
from tests.support.webhooks import SECRET, Receiver

CHANNELS = ("fcm", "hook", "mail")
MAIL_SETTINGS = {
    "RECAP_EMAIL_FROM": "Recap <recap@example.org>",
    "RECAP_UNSUBSCRIBE_URL": "https://app.example.org/unsubscribe",
    "RECAP_UNSUBSCRIBE_SECRET": "hush" * 8,
}
# The three channels of a pass are served one after the other, which takes its time on a slow machine.
UNHURRIED = {
    "RECAP_USER_DEADLINE_SECONDS": "15",
    "RECAP_USER_LEASE_SECONDS": "30",
    "RECAP_PUSH_DEADLINE_SECONDS": "6",
    "RECAP_SENDING_STALE_SECONDS": "10.2",
}
T = TypeVar("T")


def mailbox_of(uid: str) -> str:
    return f"{uid}@example.com"


@dataclass
class Turns:
    """Serves a user's three targets in this order, so that each run sends its messages in the same order.

    A request waits until all three have come and the earlier ones are answered. Once the run is struck, those that
    wait are served at once; where it was killed and `drops_the_rest`, they are cut off unserved.
    """

    director: Director
    order: tuple[str, ...] = CHANNELS
    drops_the_rest: bool = False
    on: bool = False
    _came: set[str] = field(default_factory=set)
    _answered: set[str] = field(default_factory=set)

    async def wait(self, channel: str) -> None:
        if not self.on or self.director.struck.is_set():
            return
        self._came.add(channel)
        before = set(self.order[: self.order.index(channel)])
        while not self.director.struck.is_set():
            if len(self._came) == len(self.order) and before <= self._answered:
                return
            await asyncio.sleep(0.002)
        if self.drops_the_rest and self.director.deed == "kill":
            raise ConnectionResetError

    def end(self, channel: str) -> None:
        self._answered.add(channel)
        if len(self._answered) == len(self.order):
            self.start()

    def start(self) -> None:
        self._came, self._answered = set(), set()


class ToldReceiver(Receiver):
    """The operator's receiver; each event is a message `hook UID`."""

    def __init__(self, director: Director, turns: Turns) -> None:
        self.director, self.turns = director, turns
        super().__init__()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        uid = json.loads(await request.read())["data"]["uid"]
        await self.turns.wait("hook")
        try:
            index = await self.director.message(f"hook {uid}")
            answer = await super().answer(request)
            await self.director.answer(index)
        finally:
            self.turns.end("hook")
        return answer


class ToldRelay(MailServer):
    """A relay; each command is a message `smtp COMMAND`, and a whole mail `mail UID`."""

    def __init__(self, director: Director, turns: Turns, **options: Any) -> None:
        self.director, self.turns = director, turns
        super().__init__(**options)

    async def _told(self, server: SMTP, name: str, do: Callable[[], Awaitable[T]], otherwise: T) -> T:
        try:
            if name != "smtp QUIT":
                await self.turns.wait("mail")
            index = await self.director.message(name)
            answer = await do()
            await self.director.answer(index)
        except ConnectionResetError:
            if isinstance(server.transport, asyncio.Transport):
                server.transport.abort()
            return otherwise
        return answer

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        greet = super().handle_EHLO
        return await self._told(
            server, "smtp EHLO", lambda: greet(server, session, envelope, hostname, responses), responses
        )

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        take = super().handle_MAIL
        return await self._told(
            server, "smtp MAIL", lambda: take(server, session, envelope, address, options), "421 cut"
        )

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        take = super().handle_RCPT
        return await self._told(
            server, "smtp RCPT", lambda: take(server, session, envelope, address, options), "421 cut"
        )

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        take, uid = super().handle_DATA, envelope.rcpt_tos[0].partition("@")[0]
        try:
            return await self._told(server, f"mail {uid}", lambda: take(server, session, envelope), "421 cut")
        finally:
            self.turns.end("mail")

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        leave = super().handle_QUIT
        return await self._told(server, "smtp QUIT", lambda: leave(server, session, envelope), "421 cut")


class EverywhereStage(FaultStage):
    """The fault stage, where each user has a phone, the operator's webhook and a mailbox."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.turns = Turns(self.director)
        self.hook = ToldReceiver(self.director, self.turns)
        self.relay = ToldRelay(self.director, self.turns, auth_require_tls=False)
        stage.settings |= MAIL_SETTINGS | {
            "RECAP_WEBHOOK_URL": self.hook.url,
            "RECAP_WEBHOOK_SECRET": SECRET,
            "RECAP_SMTP_URL": self.relay.url,
        }

    async def _fcm(self, token: str) -> web.Response | None:
        await self.turns.wait("fcm")
        return await super()._fcm(token)

    async def _fcm_after(self, token: str) -> web.Response | None:
        try:
            return await super()._fcm_after(token)
        finally:
            self.turns.end("fcm")

    def add_users(self, *uids: str, devices: int = 1, **changes: Any) -> None:
        for uid in uids:
            super().add_users(uid, devices=devices, **{"recap_email": mailbox_of(uid), **changes})

    def anew(self, *uids: str) -> None:
        self.hook.raw.clear()
        self.relay.mails.clear()
        super().anew(*uids)

    def start(self, *arguments: str) -> Job:
        """A run under test, whose messages come in order."""
        self.turns.start()
        self.turns.on = True
        return super().start(*arguments)

    def count(self) -> list[str]:
        trace = super().count()
        self.turns.on = False
        return trace

    def thaw(self, process: Job) -> Finished:
        finished = super().thaw(process)
        wait_for(lambda: not self.hook.busy, "end of the held event")
        return finished

    def stop(self) -> None:
        super().stop()
        self.hook.stop()
        self.relay.stop()

    # --- what is compared at the end ---------------------------------------------

    def delivered(self) -> Counter[tuple[str, str]]:
        """How often each user's recap was accepted by each channel."""
        pushed: Counter[tuple[str, str]] = Counter()
        for token, times in self.pushes().items():
            pushed["fcm", token.split("-", 1)[1].rpartition("-")[0]] += times
        hooked = Counter(("hook", json.loads(body)["data"]["uid"]) for _, body in self.hook.raw)
        mailed = Counter(("mail", to.partition("@")[0]) for _, to, _ in self.relay.mails)
        return pushed + hooked + mailed

    def check_texts(self, *, without: Iterable[str] = ()) -> None:
        """All that was accepted has its delivery's id and the stored text; of the users `without`, title and body."""
        for headers, body in self.hook.raw:
            data = json.loads(body)["data"]
            ledger = self.days_ledger(data["uid"])
            assert headers["webhook-id"] == f"msg_{ledger['collapse_id']}"
            assert (data["title"], data["body"]) == (ledger["title"], ledger["body"])
            assert data["recap"] == (None if data["uid"] in without else text_to_deliver(self.stored(data["uid"])))
        for _, to, content in self.relay.mails:
            mail, uid = parsed(content), to.partition("@")[0]
            ledger, part = self.days_ledger(uid), mail.get_body(("plain",))
            assert part is not None
            text = part.get_content()
            assert mail["Message-ID"] == f"<{ledger['collapse_id']}.1@example.org>"
            assert mail["Subject"] == ledger["title"]
            if uid in without:
                assert [ledger["title"] in text, ledger["body"] in text] == [True, True]
            else:
                stored = self.stored(uid)
                assert [stored["headline"] in text, stored["overview"] in text] == [True, True]

    def days_ledger(self, uid: str) -> dict[str, Any]:
        return self.stage.world.ledgers(uid)[self.slots[uid].recap_date.isoformat()]

    def stored(self, uid: str) -> dict[str, Any]:
        """The day's recap as it is stored: what its ledger's hash names."""
        ledger = self.days_ledger(uid)
        summary = self.stage.world.summaries(uid)[ledger["summary_id"]]
        assert text_hash(summary) == ledger["recap_hash"]
        return summary

    def check_everywhere(
        self,
        *,
        twice: Iterable[tuple[str, str]] = (),
        unsure: Iterable[tuple[str, str]] = (),
        llm: dict[str, int] | None = None,
        point: object = None,
    ) -> None:
        """Each target once, those of `twice` twice, of `unsure` once or twice; day, texts and ids as they must be."""
        found, unsure = self.delivered(), set(unsure)
        expected = Counter((channel, uid) for channel in CHANNELS for uid in self.slots) + Counter(twice)
        for name in unsure:
            assert found[name] in (1, 2), (name, point)
            expected[name] = found[name]
        assert found == expected, (found, expected, point)
        tokens = frozenset(f"token-{uid}-0" for channel, uid in found if channel == "fcm" and found[channel, uid] > 1)
        self.check_delivered(twice=tokens, llm=llm, point=point)
        for uid in self.slots:
            assert sorted(self.ledger(uid)["devices"].values()) == ["accepted"] * 3
        self.check_texts()


@dataclass(frozen=True)
class Pass:
    """Where in a run's trace one user's three targets are asked, and what may come twice.

    `first`: the first request; all three have come by then. `reported`: the first message by which the ledger has what
    came of them, and `held` the first that, held back, keeps it from the ledger no more (SQLite has it before).
    `accepted`: by channel, the message that is accepted.
    """

    first: int
    reported: int
    held: int
    accepted: dict[str, int]
    llm: range
    llm_frozen: range
    llm_held: range


def passes(trace: list[str], uid: str, order: tuple[str, ...]) -> Pass:
    token = f"token-{uid}-0"
    names = {"fcm": f"fcm {token}", "hook": f"hook {uid}", "mail": f"mail {uid}"}
    accepted = {channel: trace.index(name) for channel, name in names.items()}
    begins_with_mail = order[0] == "mail"
    first = min(accepted.values())
    while begins_with_mail and trace[first - 1].startswith("smtp "):
        first -= 1
    last, found = max(accepted.values()), windows(trace, uid, token)
    committed = next((n for n in range(last, len(trace)) if trace[n] == COMMIT), None)
    reported, held = (last + 1, last + 1) if committed is None else (committed, committed + 1)
    return Pass(first, reported, held, accepted, found.llm, found.llm_frozen, found.llm_held)
