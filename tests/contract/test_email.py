"""Mails over SMTP to servers on loopback, and what their answers mean."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from notifications.adapters.channels.email import EmailChannel, connect, smtp
from notifications.adapters.channels.email.smtp import ANSWERS, CONNECTIONS, POLICY_CODES, interpret
from notifications.commands.reasons import in_words
from notifications.domain.claim import reason_code
from notifications.domain.model import collapse_id
from notifications.domain.push import TTL, Message, PushAnswer, PushResult
from notifications.domain.target import Recipient, Target, target
from notifications.ports import Channel
from notifications.testing import ChannelSuite, PushTrouble
from tests.support.mail_servers import FAR, PASSWORD, USER, MailServer, ScriptedServer, certificate, parsed
from tests.support.rows import rows
from tests.support.servers import free_port

FROM, PAGE, SECRET = "Recap <recap@example.org>", "https://app.example.org/unsubscribe", "s" * 32
NOW = datetime.now(UTC)
BOB = target("email", "bob@example.com")
TIMEOUT, SHORT = timedelta(seconds=10), timedelta(seconds=0.8)
LOGIN = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}@"
MINUTE = timedelta(minutes=1)


def message(age: timedelta = timedelta(0)) -> Message:
    made = NOW - age
    name = collapse_id("ann", made.date())
    return Message("ann", made.date(), name, "🌤️ Head", "Body", "id", made, made + TTL, age=age, language="en")


async def sent(
    channel: EmailChannel,
    to: Target = BOB,
    *,
    timeout: timedelta = TIMEOUT,
    age: timedelta = timedelta(0),
    leaves: Callable[[], None] = lambda: None,
) -> PushAnswer:
    return await channel.send(to, message(age), timeout, leaves)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[EmailChannel]:
    channel = connect(url, FROM, PAGE, SECRET)
    yield channel
    await channel.aclose()


def with_login(url: str, login: str = LOGIN) -> str:
    return url.replace("://", f"://{login}")


@contextmanager
def serving(*args: Any, **options: Any) -> Iterator[MailServer]:
    server = MailServer(*args, **options)
    yield server
    server.stop()


@contextmanager
def scripted(answers: dict[str, str], greets: asyncio.Event | None = None) -> Iterator[ScriptedServer]:
    server = ScriptedServer(answers, greets)
    yield server
    server.stop()


@pytest.fixture
def server() -> Iterator[MailServer]:
    with serving() as made:
        yield made


@pytest.fixture
async def channel(server: MailServer) -> AsyncIterator[EmailChannel]:
    async with opened(server.url) as made:
        yield made


def verdict(answer: PushAnswer) -> str:
    minutes = int(answer.retry_after / MINUTE) if answer.retry_after else 0
    if answer.config:
        words = {"login": "login", "sender": "sender", "connection": "connection"}
        return next(word for word in words if f"refuses our {word}" in answer.says)
    if answer.quota:
        return f"pause {minutes}"
    if answer.result is PushResult.BUSY:
        return "not yet" if minutes else "busy"
    if answer.result is PushResult.REFUSED and POLICY_CODES.fullmatch(answer.code):
        return "refused, policy"
    return answer.result.value


@pytest.mark.parametrize(("source", "step", "reply", "meaning"), rows("smtp_answers", "answers"))
def test_an_answer_that_real_servers_give_has_one_meaning(source: str, step: str, reply: str, meaning: str) -> None:
    answer = interpret(step, int(reply[:3]), reply[4:])
    assert verdict(answer) == meaning
    assert "example" not in answer.code + answer.says
    assert answer.result.is_definite


@pytest.mark.parametrize("row", range(len(ANSWERS)))
def test_without_a_row_of_the_table_an_answer_of_some_server_means_something_else(
    monkeypatch: pytest.MonkeyPatch, row: int
) -> None:
    monkeypatch.setattr(smtp, "ANSWERS", [*ANSWERS[:row], *ANSWERS[row + 1 :]])
    replies = rows("smtp_answers", "answers")
    found = [verdict(interpret(step, int(reply[:3]), reply[4:])) for _, step, reply, _ in replies]
    assert found != [meaning for *_, meaning in replies]


@pytest.mark.parametrize(("code", "text"), [(-1, "garbage"), (199, ""), (200, "ok"), (600, "what")])
def test_what_smtp_does_not_know_leaves_open_what_happened_to_the_mail(code: int, text: str) -> None:
    results = [interpret(step, code, text).result for step in ("OPEN", "MAIL", "RCPT", "DATA")]
    assert results == [PushResult.UNSENT] * 3 + [PushResult.UNKNOWN]


async def test_a_mail_arrives_once_and_leaves_once(server: MailServer, channel: EmailChannel) -> None:
    left: list[int] = []
    answer = await sent(channel, leaves=lambda: left.append(1))
    assert (answer.result, len(left), len(server.mails)) == (PushResult.ACCEPTED, 1, 1)
    sender, recipient, _ = server.mails[0]
    assert (sender, recipient) == ("recap@example.org", "bob@example.com")
    assert server.connections[0].host_name == "example.org"


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA"])
async def test_a_refusal_over_the_wire_is_that_of_the_table_and_the_next_mail_goes_out(
    server: MailServer, channel: EmailChannel, step: str
) -> None:
    server.answers[step] = "451 4.7.1 later"
    left: list[int] = []
    answer = await sent(channel, leaves=lambda: left.append(1))
    assert (answer.result, answer.code, len(left)) == (PushResult.BUSY, "451_4.7.1", int(step == "DATA"))
    del server.answers[step]
    assert (await sent(channel)).result is PushResult.ACCEPTED
    assert (len(server.mails), len(server.connections)) == (1, 1)


@pytest.mark.parametrize(
    ("step", "result", "left"),
    [("MAIL", PushResult.UNSENT, 0), ("RCPT", PushResult.UNSENT, 0), ("DATA", PushResult.UNKNOWN, 1)],
)
async def test_a_connection_that_ends_without_an_answer(
    server: MailServer, channel: EmailChannel, step: str, result: PushResult, left: int
) -> None:
    server.answers[step] = "cut"
    times: list[int] = []
    answer = await sent(channel, leaves=lambda: times.append(1))
    assert (answer.result, len(times), answer.config) == (result, left, False)
    server.answers.clear()
    assert (await sent(channel)).result is PushResult.ACCEPTED
    assert len(server.connections) == 2


async def test_a_slow_answer_after_data_is_unknown_and_never_taken_for_the_next_mails(
    server: MailServer, channel: EmailChannel
) -> None:
    server.is_slow = True
    server.answers["DATA"] = "550 5.1.1 gone"
    answer = await sent(channel, timeout=SHORT)
    assert (answer.result, answer.code) == (PushResult.UNKNOWN, "TIMEOUT")
    server.is_slow = False
    del server.answers["DATA"]
    assert (await sent(channel)).result is PushResult.ACCEPTED
    assert len(server.connections) == 2


class FrozenAtRcpt(MailServer):
    """Answers RCPT while the loop of its client stands still, as a process does that is frozen."""

    stopped, answered = threading.Event(), threading.Event()

    async def handle_RCPT(self, *args: Any) -> str:  # noqa: N802 - aiosmtpd names it
        await asyncio.to_thread(self.stopped.wait, 5)
        asyncio.get_running_loop().call_later(0.1, self.answered.set)
        return await super().handle_RCPT(*args)

    def stop_the_client(self, seconds: float) -> None:
        began = time.monotonic()
        self.stopped.set()
        self.answered.wait(5)
        time.sleep(max(0.0, began + seconds - time.monotonic()))


async def test_a_process_that_was_frozen_past_its_time_out_says_no_data_though_the_answer_came_meanwhile() -> None:
    server = FrozenAtRcpt()
    async with opened(server.url) as channel:
        asyncio.get_running_loop().call_later(0.3, server.stop_the_client, 0.6)
        answer = await sent(channel, timeout=timedelta(seconds=0.6))
    assert (answer.result, server.mails, "DATA" in server.said) == (PushResult.UNSENT, [], False)
    server.stop()


async def test_a_connection_that_opens_slowly_goes_on_and_serves_the_next_mail() -> None:
    greets = asyncio.Event()
    with scripted({}, greets) as server:
        async with opened(server.url) as channel:
            left: list[int] = []
            answer = await sent(channel, timeout=SHORT, leaves=lambda: left.append(1))
            assert (answer.result, answer.code, left) == (PushResult.UNSENT, "TIMEOUT", [])
            server.loop.call_soon_threadsafe(greets.set)
            assert (await sent(channel)).result is PushResult.ACCEPTED
            assert server.opened == 1


async def test_four_connections_carry_all_mails(server: MailServer, channel: EmailChannel) -> None:
    targets = [target("email", f"user{number}@example.com") for number in range(30)]
    answers = await asyncio.gather(*(sent(channel, to) for to in targets))
    assert [answer.result for answer in answers] == [PushResult.ACCEPTED] * 30
    assert sorted(recipient for _, recipient, _ in server.mails) == sorted(to.address for to in targets)
    assert len(server.connections) == CONNECTIONS


async def test_mails_in_turn_share_one_connection_that_is_replaced_after_a_hundred(
    server: MailServer, channel: EmailChannel
) -> None:
    for _ in range(101):
        assert (await sent(channel)).result is PushResult.ACCEPTED
    assert (len(server.connections), server.said.count("QUIT")) == (2, 1)


async def test_an_idle_connection_that_the_server_closed_costs_no_try(
    server: MailServer, channel: EmailChannel
) -> None:
    await sent(channel)
    server.hang_up()
    assert (await sent(channel)).result is PushResult.ACCEPTED
    assert (len(server.connections), len(server.mails)) == (2, 2)


@pytest.mark.parametrize("reply", ["421 4.4.2 timeout exceeded", "451 4.4.2 Timeout waiting for data from client."])
async def test_an_idle_connection_that_says_goodbye_instead_of_an_answer_costs_no_try(reply: str) -> None:
    with scripted({}) as server:
        async with opened(server.url) as channel:
            assert (await sent(channel)).result is PushResult.ACCEPTED
            server.answers["MAIL"] = reply
            answer = await sent(channel)  # the second connection says so too
            assert (answer.result, server.opened) == (PushResult.BUSY, 2)
            del server.answers["MAIL"]
            assert (await sent(channel)).result is PushResult.ACCEPTED


async def test_closing_says_quit_on_each_connection(server: MailServer) -> None:
    async with opened(server.url) as channel:
        await asyncio.gather(*(sent(channel) for _ in range(8)))
    assert server.said.count("QUIT") == len(server.connections)


async def test_closing_ends_a_connection_that_is_still_being_opened() -> None:
    greets = asyncio.Event()
    with scripted({}, greets) as server:
        async with opened(server.url) as channel:
            await sent(channel, timeout=SHORT)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


@pytest.mark.parametrize(("minutes", "wait"), [(0, 5), (4.9, 5), (5.1, 15), (14.9, 15), (15.1, 30), (200, 30)])
async def test_who_says_not_yet_is_asked_after_five_fifteen_and_thirty_minutes(
    server: MailServer, channel: EmailChannel, minutes: float, wait: int
) -> None:
    server.answers["RCPT"] = "450 4.2.0 Greylisted"
    answer = await sent(channel, age=minutes * MINUTE)
    assert (answer.result, answer.retry_after) == (PushResult.BUSY, wait * MINUTE)


@pytest.mark.parametrize(("reply", "minutes"), [("421 4.7.0 busy", 1), ("454 Throttling failure", 1)])
async def test_a_relay_that_is_busy_pauses_the_channel(
    server: MailServer, channel: EmailChannel, reply: str, minutes: int
) -> None:
    server.answers["DATA"] = reply
    answer = await sent(channel)
    assert (answer.must_pause, answer.retry_after) == (True, minutes * MINUTE)


async def refused(channel: EmailChannel, names: range) -> list[PushAnswer]:
    return [await sent(channel, target("email", f"user{name}@example.com")) for name in names]


@pytest.mark.parametrize("reply", ["554 5.7.1 Relay access denied", "550 relay not permitted", "554 Message rejected"])
async def test_ten_refusals_in_a_row_for_no_fault_of_the_users_open_the_channel(
    server: MailServer, channel: EmailChannel, reply: str
) -> None:
    server.answers["RCPT"] = reply
    answers = await refused(channel, range(10))
    assert [answer.config for answer in answers] == [False] * 9 + [True]
    assert [answer.result for answer in answers] == [PushResult.REFUSED] * 9 + [PushResult.BUSY]
    assert "refuses ten mails in a row" in answers[-1].says


async def test_one_user_refused_ten_times_or_an_accepted_mail_between_opens_nothing(
    server: MailServer, channel: EmailChannel
) -> None:
    server.answers["RCPT"] = "550 5.7.1 no"
    assert not any(answer.config for answer in [await sent(channel) for _ in range(12)])
    assert not any(answer.config for answer in await refused(channel, range(8)))
    server.answers.clear()
    await sent(channel)
    server.answers["RCPT"] = "550 5.7.1 no"
    assert not any(answer.config for answer in await refused(channel, range(9)))


async def test_full_mailboxes_are_no_fault_of_ours(server: MailServer, channel: EmailChannel) -> None:
    server.answers["RCPT"] = "552 5.2.2 Mailbox full"
    assert {answer.result for answer in await refused(channel, range(12))} == {PushResult.REFUSED}


async def test_a_mail_that_is_larger_than_the_server_takes_is_refused_before_it_leaves() -> None:
    with serving(data_size_limit=500) as server:
        async with opened(server.url) as channel:
            answer = await sent(channel)
            assert (answer.result, answer.code, server.said) == (PushResult.REFUSED, "TOO_LARGE", [])


async def test_a_local_part_beyond_ascii_needs_a_server_with_smtputf8() -> None:
    to = target("email", "jürgen@straße-münchen.example".replace("straße-", ""))
    with serving() as server:
        async with opened(server.url) as channel:
            assert (await sent(channel, to)).result is PushResult.ACCEPTED
            assert server.mails[0][1] == "jürgen@xn--mnchen-3ya.example"
            assert "jürgen@" in server.message()["To"]
    with serving(enable_SMTPUTF8=False) as server:
        async with opened(server.url) as channel:
            answer = await sent(channel, to)
            assert (answer.result, answer.code, server.said) == (PushResult.REFUSED, "NO_SMTPUTF8", [])
            assert (await sent(channel)).result is PushResult.ACCEPTED


async def test_a_domain_beyond_ascii_needs_none() -> None:
    with serving(enable_SMTPUTF8=False) as server:
        async with opened(server.url) as channel:
            assert (await sent(channel, target("email", "bob@münchen.example"))).result is PushResult.ACCEPTED
            assert server.mails[0][1] == "bob@xn--mnchen-3ya.example"


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A certificate that this process trusts."""
    context, trusted = certificate(tmp_path, FAR, "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    return context


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
@pytest.mark.parametrize("smtps", [False, True])
async def test_beyond_this_machine_all_is_said_through_tls(tls: ssl.SSLContext, smtps: bool) -> None:
    with serving(FAR, tls=tls, smtps=smtps, auth_required=True, auth_require_tls=not smtps) as server:
        async with opened(with_login(server.url)) as channel:
            assert await channel.check() == ""
            assert (await sent(channel)).result is PushResult.ACCEPTED
            assert server.connections[-1].ssl is not None or smtps
            assert server.connections[-1].authenticated


async def test_beyond_this_machine_a_server_without_starttls_hears_neither_login_nor_mail() -> None:
    with serving(FAR, auth_require_tls=False) as server:
        async with opened(with_login(server.url)) as channel:
            answer = await sent(channel)
            assert (answer.config, answer.code, answer.result) == (True, "NO_TLS_OR_LOGIN", PushResult.BUSY)
            assert in_words(reason_code(answer.code)) == "mail NO_TLS_OR_LOGIN, relay offers no TLS, or no login"
            assert "offers no STARTTLS" in await channel.check()
            assert (server.said, server.mails) == ([], [])


@pytest.mark.parametrize("smtps", [False, True])
async def test_a_certificate_of_another_host_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, smtps: bool
) -> None:
    context, trusted = certificate(tmp_path, "mail.example.org")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with serving(FAR, tls=context, smtps=smtps) as server:
        async with opened(with_login(server.url)) as channel:
            answer = await sent(channel)
            assert (answer.config, answer.code, server.mails) == (True, "CERTIFICATE", [])
            assert "certificate" in await channel.check()


async def test_a_wrong_password_is_named_and_not_shown(server: MailServer, tls: ssl.SSLContext) -> None:
    with serving(FAR, tls=tls) as server:
        async with opened(with_login(server.url, "ann:wr0ng-pw@")) as channel:
            answer, said = await sent(channel), await channel.check()
            assert (answer.config, answer.result) == (True, PushResult.BUSY)
            assert "refuses our login; check the user and the password in RECAP_SMTP_URL" in said
            assert in_words(reason_code(answer.code)).startswith("mail 535")
            assert "wr0ng-pw" not in said + answer.says + answer.code + repr(answer)


@pytest.mark.filterwarnings("ignore:Requiring AUTH")
async def test_on_this_machine_a_login_needs_no_tls() -> None:
    with serving(auth_required=True, auth_require_tls=False) as server:
        async with opened(with_login(server.url)) as channel:
            assert (await sent(channel)).result is PushResult.ACCEPTED


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"": "554 5.7.1 blocked"}, "refuses our connection"),
        ({"": "421 4.7.0 too many"}, "does not let us in (421_4.7.0); check the address and the network."),
        ({"": "220 hi", "EHLO": "554 go away", "HELO": "554 go away"}, "refuses our connection"),
        ({"": "HTTP/1.1 400 Bad Request"}, "does not let us in"),
    ],
)
async def test_the_doctor_says_why_the_relay_does_not_let_us_in(answers: dict[str, str], sentence: str) -> None:
    with scripted(answers) as server:
        async with opened(server.url) as channel:
            said = await channel.check()
            assert said.startswith("The mail relay (RECAP_SMTP_URL) ")
            assert sentence in said
            assert (await sent(channel)).result in (PushResult.BUSY, PushResult.UNSENT)


async def test_the_doctor_delivers_nothing_and_says_goodbye(server: MailServer, channel: EmailChannel) -> None:
    assert await channel.check() == ""
    assert (server.said, server.mails) == (["MAIL", "RSET", "QUIT"], [])


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        ("553 5.7.1 not yours", "refuses our sender; it must be allowed to send as RECAP_EMAIL_FROM (553_5.7.1)."),
        ("530 5.7.0 log in", "refuses our login; check the user and the password in RECAP_SMTP_URL (530_5.7.0)."),
        ("451 4.3.0 later", "does not take our sender now (451_4.3.0); try again, then ask whoever runs it."),
        ("421 4.7.0 too many", "does not take our sender now (421_4.7.0); try again, then ask whoever runs it."),
        ("cut", "does not answer (SMTPServerDisconnected); check the address and the network."),
    ],
)
async def test_the_doctor_says_of_a_refused_sender_what_a_run_says(
    server: MailServer, channel: EmailChannel, reply: str, sentence: str
) -> None:
    server.answers["MAIL"] = reply
    assert await channel.check() == f"The mail relay (RECAP_SMTP_URL) {sentence}"
    assert (server.said[0], server.mails, "DATA" in server.said) == ("MAIL", [], False)
    answer = await sent(channel)
    assert not answer.says or f"The mail relay (RECAP_SMTP_URL) {answer.says}." == await channel.check()


@pytest.mark.parametrize("host", ["127.0.0.1", "relay.invalid"])
async def test_a_relay_that_is_not_there_sends_nothing(host: str) -> None:
    async with opened(f"smtp://{host}:{free_port()}") as channel:
        answer = await sent(channel)
        assert (answer.result, answer.config) == (PushResult.UNSENT, False)
        assert f"does not answer ({answer.code}); check the address" in await channel.check()


async def test_garbage_for_an_answer_ends_the_conversation(server: MailServer) -> None:
    with scripted({".": "?? what"}) as odd:
        async with opened(odd.url) as channel:
            assert (await sent(channel)).result is PushResult.UNKNOWN
            odd.answers["."] = "250 ok"
            assert (await sent(channel)).result is PushResult.ACCEPTED
            assert odd.opened == 2


def test_a_users_address_is_a_target_or_a_code() -> None:
    channel = connect("smtp://localhost", FROM, PAGE, SECRET)

    def found(address: str) -> tuple[list[str], list[str]]:
        targets, codes = channel.targets(Recipient("ann", addresses={"email": {"address": address}}))
        return [to.address for to in targets], codes

    assert found("bob@example.com") == (["bob@example.com"], [])
    assert found("") == ([], [])
    assert channel.targets(Recipient("ann")) == ([], [])
    assert found("bob@example.com\r\nRCPT TO:<eve@example.com>") == ([], ["address_refused"])
    assert "bob" not in repr(target("email", "bob@example.com"))


class TestEmailChannel(ChannelSuite):
    """A mailbox may show two mails with one Message-ID as one; `shown` does so."""

    @asynccontextmanager
    async def make(self) -> AsyncIterator[Channel]:
        with serving(auth_require_tls=False) as self.server:
            async with opened(with_login(self.server.url)) as channel:
                yield channel

    def recipient(self, number: int = 1) -> Recipient:
        return Recipient("ann", addresses={"email": {"address": f"user{number}@example.com"}})

    def shown(self) -> list[str]:
        mails = [parsed(content) for _, to, content in self.server.mails if to == "user1@example.com"]
        return list({mail["Message-ID"]: body_of(mail) for mail in mails}.values())

    def cause(self, trouble: PushTrouble) -> None:
        if trouble is PushTrouble.SLOW:
            self.server.is_slow = True
        elif trouble is PushTrouble.DOWN:
            self.server.stop()
        elif trouble is PushTrouble.REFUSES_US:
            self.server.password = "another"
        elif trouble is PushTrouble.GONE:
            self.server.answers["DATA"] = "550 5.1.1 unknown"
        else:
            self.server.answers["DATA"] = "450 4.2.1 later" if trouble is PushTrouble.BUSY else "cut"


def body_of(mail: EmailMessage) -> str:
    """The recap's text: of the plain part what is between the day and the link."""
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content()).splitlines()[3]
