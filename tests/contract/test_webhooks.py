"""Webhooks over loopback: what a receiver gets, what its answers mean, and how little a hostile one can do."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import sys
import threading
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver
from standardwebhooks import Webhook as Library

from notifications.adapters.channels import webhook
from notifications.adapters.channels.webhook import Webhook, addresses, body_of, connect
from notifications.adapters.channels.webhook.signing import read_keys, signed_headers
from notifications.domain.errors import ConfigFault
from notifications.domain.model import Device
from notifications.domain.push import PushAnswer, PushResult
from notifications.domain.target import Recipient, Target, target
from notifications.ports import Channel
from notifications.testing import ChannelSuite, PushTrouble
from notifications.testing.channel_suite import MESSAGE
from tests.support.rows import rows
from tests.support.servers import free_port
from tests.support.webhooks import (
    HOST,
    HOSTILE,
    OTHER_SECRET,
    SECRET,
    Behaviour,
    Counted,
    Names,
    NoNameServer,
    Receiver,
    certificates,
    counted,
    writes,
)

TIMEOUT = timedelta(seconds=30)
URL = f"https://{HOST}/recap?of=ann"
RECAP: dict[str, Any] = {
    "headline": "Two talks and a plan",
    "overview": "A day of talks.",
    "day_emoji": "🌤️",
    "highlights": [{"topic": "Work", "emoji": "🛠️", "items": [{"text": "A plan.", "conversation_ids": ["c1", "c2"]}]}],
    "action_items": [{"description": "Call Bo", "completed": False, "conversation_id": "c1"}],
    "unresolved_questions": [],
    "decisions_made": [{"text": "Go.", "conversation_ids": ["c2"]}],
    "knowledge_nuggets": [{"text": "Ice floats.", "conversation_ids": ["c1"]}],
}


async def recap() -> Mapping[str, Any]:
    return RECAP


FULL = replace(MESSAGE, zone="Europe/Paris", language="fr", source="llm", verified=True, full=recap)


def ann(url: str = URL, secret: str = SECRET) -> Recipient:
    return Recipient("ann", addresses={"webhook": {"url": url, "secret": secret}})


def of_user(url: str = URL, secret: str = SECRET) -> Target:
    return target("webhook", url, secret, is_users_own=True)


async def send(channel: Webhook, to: Target, left: list[int] | None = None, **changes: Any) -> PushAnswer:
    return await channel.send(to, replace(FULL, **changes), TIMEOUT, lambda: (left or []).append(1))


@asynccontextmanager
async def own(url: str, secret: str = SECRET) -> AsyncIterator[tuple[Webhook, Target]]:
    """The operator's webhook, and its target."""
    channel = connect(url, secret, 4, users=False)
    [only], codes = channel.targets(Recipient("ann"))
    assert codes == []
    try:
        yield channel, only
    finally:
        await channel.aclose()


@asynccontextmanager
async def users(
    resolver: AbstractResolver, tls: ssl.SSLContext | bool = True, *allowed: str, **more: Any
) -> AsyncIterator[Webhook]:
    """Users' webhooks; `allowed` are addresses that count as public."""
    may_connect = (lambda host: host in allowed) if allowed else addresses.is_public
    channel = connect(None, None, 4, users=True, may_connect=may_connect, resolver=resolver, tls=tls, **more)
    try:
        yield channel
    finally:
        await channel.aclose()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A try of a user's takes half a second, not five."""
    monkeypatch.setattr(webhook, "USER_SECONDS", 0.5)


# What is sent.


async def test_the_kept_library_verifies_the_event_and_the_whole_recap_is_in_it(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with own(f"{receiver.url}/in/") as (channel, to):
        left: list[int] = [0]
        answer = await send(channel, to, left)
    assert (answer, left) == (PushAnswer(PushResult.ACCEPTED, "200"), [0, 1])
    assert receiver.events == {
        f"msg_{MESSAGE.collapse_id}": {
            "type": "recap.created",
            "timestamp": "2026-05-01T20:00:00+00:00",
            "data": {
                "uid": "ann",
                "date": "2026-05-01",
                "zone": "Europe/Paris",
                "language": "fr",
                "source": "llm",
                "verified": True,
                "title": "🌤️ Head",
                "body": "Body",
                "recap": RECAP,
                "left_out": [],
            },
        }
    }
    [(headers, body)] = receiver.raw
    assert headers["Content-Type"] == "application/json"
    assert headers["Content-Length"] == str(len(body))
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 5
    assert receiver.urls == ["/in/"]
    page = (Path(__file__).parents[2] / "docs" / "channels.md").read_text(encoding="utf-8")
    monkeypatch.setenv("RECAP_WEBHOOK_SECRET", SECRET)
    names: dict[str, Any] = {"os": os, "body": body, "request": SimpleNamespace(headers=headers)}
    exec(page.partition("```python\n")[2].partition("```")[0], names)  # noqa: S102 - the page's lines
    assert names["event"]["data"]["uid"] == "ann"


async def test_a_recap_that_is_gone_leaves_the_title_and_the_body(receiver: Receiver) -> None:
    async with own(receiver.url) as (channel, to):
        await channel.send(to, MESSAGE, TIMEOUT, lambda: None)
    [event] = receiver.events.values()
    assert (event["data"]["title"], event["data"]["body"], event["data"]["recap"]) == ("🌤️ Head", "Body", None)


async def test_a_repeat_has_the_same_id_and_a_resend_its_own(receiver: Receiver) -> None:
    async with own(receiver.url) as (channel, to):
        for seq in (1, 1, 2):
            await send(channel, to, seq=seq)
    name = f"msg_{MESSAGE.collapse_id}"
    assert [headers["webhook-id"] for headers, _ in receiver.raw] == [name, name, f"{name}_2"]
    assert not any("." in headers["webhook-id"] for headers, _ in receiver.raw)


async def test_of_two_secrets_either_verifies_what_was_sent(receiver: Receiver) -> None:
    async with own(receiver.url, f"{OTHER_SECRET} {SECRET}") as (channel, to):
        assert (await send(channel, to)).result is PushResult.ACCEPTED
    [(headers, body)] = receiver.raw
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OTHER_SECRET):
        Library(secret).verify(body, headers)


@pytest.mark.parametrize("size", [24, 32, 64])
@pytest.mark.parametrize("padded", [True, False])
def test_a_key_of_24_to_64_bytes_signs_as_the_library_does(size: int, *, padded: bool) -> None:
    secret = "whsec_" + b64encode(bytes(range(size))).decode()
    secret = secret if padded else secret.rstrip("=")
    now = datetime.now(UTC)
    headers = signed_headers(read_keys(secret), "msg_1", now, "é\n".encode())
    assert headers["webhook-signature"] == Library(secret).sign("msg_1", now, "é\n")


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "secret",
        SECRET.removeprefix("whsec_"),
        "whsec_" + b64encode(bytes(23)).decode(),
        "whsec_" + b64encode(bytes(65)).decode(),
        SECRET + "!",
        SECRET.replace("M", "é"),
        SECRET + "\n",
        f"{SECRET}  {SECRET}",
        f"{SECRET} ",
        f"{SECRET} other",
        f"{SECRET} {SECRET} {SECRET}",
        SECRET.replace("whsec_", "whsk_"),
    ],
)
def test_a_malformed_secret_signs_nothing(secret: str) -> None:
    assert read_keys(secret) == []
    with pytest.raises(ConfigFault, match="RECAP_WEBHOOK_SECRET is malformed") as caught:
        connect("https://hooks.example/", secret, 4, users=False)
    assert len(secret) < 8 or secret not in str(caught.value)


def test_a_body_is_at_most_20_kilobytes_of_json_and_names_what_it_leaves_out() -> None:
    def long(**sizes: int) -> dict[str, Any]:
        return RECAP | {name: [{"text": "é" * size, "conversation_ids": ["c1"]}] for name, size in sizes.items()}

    def left_out(recap: Mapping[str, Any]) -> list[str]:
        body = body_of(FULL, recap)
        assert len(body) <= 20_000
        event = json.loads(body)
        said: list[str] = event["data"]["left_out"]
        assert set(event["data"]["recap"]) == set(recap) - set(said)
        return said

    assert left_out(long(highlights=9_500)) == []
    assert left_out(long(knowledge_nuggets=10_000)) == ["knowledge_nuggets"]
    assert left_out(long(highlights=10_000)) == [
        *("knowledge_nuggets", "decisions_made", "action_items", "highlights"),
    ]
    everything = left_out(RECAP | {"headline": "é" * 10_000, "overview": "x" * 20_000})
    assert everything == ["knowledge_nuggets", "decisions_made", "action_items", "highlights", "headline", "overview"]
    half = json.loads(body_of(FULL, RECAP | {"overview": "half \ud83d a letter"}))
    assert half["data"]["recap"]["overview"] == "half ? a letter"


def test_the_event_on_the_channels_page_has_the_parts_of_a_real_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "channels.md").read_text(encoding="utf-8")
    shown, real = json.loads(page.partition("```json\n")[2].partition("```")[0]), json.loads(body_of(FULL, RECAP))
    assert (list(shown), list(shown["data"])) == (list(real), list(real["data"]))
    assert set(shown["data"]["recap"]) == set(RECAP)
    assert [shown["data"]["recap"][name][0].keys() for name in ("highlights", "action_items")] == [
        RECAP[name][0].keys() for name in ("highlights", "action_items")
    ]
    codes = ("url_refused", "no_secret", "secret_malformed", "address_refused", "host_silent")
    assert [code for code in codes if f"`{code}`" not in page] == []


# Whom it goes to.


async def test_a_user_has_the_operators_target_and_their_own_under_the_ids_of_their_addresses() -> None:
    channel = connect("https://own.example/x", SECRET, 4, users=True)
    operators, users_own = target("webhook", "https://own.example/x"), of_user(secret=OTHER_SECRET)
    assert channel.targets(Recipient("ann")) == ([operators], [])
    assert channel.targets(ann(secret=OTHER_SECRET)) == ([operators, users_own], [])
    assert (operators.secret, users_own.id) == ("", of_user(secret=SECRET).id)
    assert channel.targets(ann("https://own.example/x", OTHER_SECRET)) == ([operators], [])
    assert channel.targets(ann(secret="")) == ([operators], ["no_secret"])
    assert channel.targets(ann(secret="secret")) == ([operators], ["secret_malformed"])
    assert channel.targets(ann("")) == ([operators], [])
    assert channel.targets(ann("https://hooks.example:444/")) == ([operators], ["url_refused"])
    assert channel.targets(Recipient("sample-00", [Device("sample-token-0-1", "d")])) == ([], [])
    await channel.aclose()


async def test_where_users_may_not_choose_only_the_operators_target_is_there() -> None:
    async with own("https://own.example/x") as (channel, to):
        assert (channel.targets(ann()), channel.has_addresses) == (([to], []), False)


async def test_no_target_and_no_message_shows_an_address_or_a_secret() -> None:
    shown = repr(of_user()) + repr(ann()) + repr(FULL)
    assert not any(hidden in shown for hidden in (HOST, SECRET, "Two talks"))


# What an answer means.


@pytest.mark.parametrize(
    ("status", "operators", "users_own"),
    [
        (200, "accepted", "accepted"),
        (202, "accepted", "accepted"),
        (204, "accepted", "accepted"),
        (299, "accepted", "accepted"),
        (301, "config", "refused"),
        (302, "config", "refused"),
        (304, "refused", "refused"),
        (307, "config", "refused"),
        (308, "config", "refused"),
        (400, "refused", "refused"),
        (401, "config", "refused"),
        (403, "config", "refused"),
        (404, "config", "refused"),
        (405, "refused", "refused"),
        (408, "refused", "refused"),
        (410, "gone", "gone"),
        (413, "refused", "refused"),
        (422, "refused", "refused"),
        (429, "busy", "busy"),
        (500, "unknown", "unknown"),
        (501, "unknown", "unknown"),
        (502, "unknown", "unknown"),
        (503, "busy", "busy"),
        (504, "unknown", "unknown"),
        (599, "unknown", "unknown"),
        (999, "unknown", "unknown"),
    ],
)
async def test_each_status_over_the_wire(
    status: int, operators: str, users_own: str, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    said = writes(f"HTTP/1.1 {status} So\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".encode())
    async with counted(said) as server, own(f"http://127.0.0.1:{server.port}/") as (channel, to):
        answer = await send(channel, to)
    assert ("config" if answer.config else answer.result.value, answer.code) == (operators, str(status))
    async with counted(said, tls=tls[0]) as server:
        names = Names(hooks_example=[[("127.0.0.1", server.port)]])
        async with users(names, tls[1], "127.0.0.1") as channel:
            answer = await send(channel, of_user())
    assert (answer.result.value, answer.code, answer.config) == (users_own, str(status), False)
    assert server.connections == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_busy_waits_as_the_server_says_and_the_operators_own_limit_pauses_the_channel(
    receiver: Receiver, status: int
) -> None:
    receiver.status, receiver.headers = status, {"Retry-After": "7"}
    async with own(receiver.url) as (channel, to):
        answer = await send(channel, to)
        assert (answer.retry_after, answer.must_pause) == (timedelta(seconds=7), status == 429)
        then = datetime.now(UTC)
        receiver.headers = {"Retry-After": format_datetime(then + timedelta(minutes=2)), "Date": format_datetime(then)}
        assert (await send(channel, to)).retry_after == timedelta(minutes=2)
        receiver.headers = {"Retry-After": "soon"}
        assert (await send(channel, to)).retry_after is None


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (200, ""),
        (202, ""),
        (308, "The webhook (RECAP_WEBHOOK_URL) redirects (308); set RECAP_WEBHOOK_URL to where it leads."),
        (401, "refuses our signature (401); it must check with RECAP_WEBHOOK_SECRET."),
        (403, "refuses us (403); it must check with RECAP_WEBHOOK_SECRET, and let this machine in."),
        (404, "knows nothing at this address (404); check RECAP_WEBHOOK_URL."),
        (405, "takes no message of ours (405)."),
        (410, "takes no message of ours (410)."),
        (500, "fails (500); check the address and the network."),
        (503, "takes no message of ours (503)."),
    ],
)
async def test_the_check_is_a_signed_event_without_a_recap(receiver: Receiver, status: int, sentence: str) -> None:
    receiver.status = status
    async with own(receiver.url) as (channel, _):
        said = await channel.check()
    assert sentence in said if sentence else said == ""
    assert "127.0.0.1" not in said
    assert receiver.asked == 1
    assert [(event["type"], event["data"]) for event in receiver.events.values()] == [("recap.check", {})] * (
        status == 200
    )


async def test_a_wrong_secret_is_the_operators_to_correct(receiver: Receiver) -> None:
    async with own(receiver.url, OTHER_SECRET) as (channel, to):
        answer = await send(channel, to)
        assert (answer.config, answer.result) == (True, PushResult.BUSY)
        assert await channel.check() != ""
    assert receiver.events == {}


async def test_what_is_not_reached_was_not_sent_and_what_is_cut_is_unknown(receiver: Receiver) -> None:
    left: list[int] = [0]
    async with own(f"http://127.0.0.1:{free_port()}/") as (channel, to):
        assert await send(channel, to, left) == PushAnswer(PushResult.UNSENT, "ClientConnectorError")
        assert "does not answer (ClientConnectorError)" in await channel.check()
    assert left == [0]
    receiver.cuts = True
    async with own(receiver.url) as (channel, to):
        assert (await send(channel, to, left)).result is PushResult.UNKNOWN
    assert (left, receiver.asked) == ([0, 1], 1)


async def test_the_operators_url_is_reached_through_the_environments_proxy(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver stands in for a proxy of plain HTTP, which gets the whole address."""
    monkeypatch.setenv("http_proxy", receiver.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    async with own("http://own.example/in") as (channel, to):
        assert (await send(channel, to)).result is PushResult.ACCEPTED
    assert receiver.asked == 1
    async with own(receiver.url) as (channel, to):  # this machine is never reached through one
        assert (await send(channel, to)).result is PushResult.ACCEPTED


async def test_the_operators_server_keeps_its_connection(receiver: Receiver) -> None:
    async with counted_in_front_of(receiver) as front, own(f"http://127.0.0.1:{front.port}/") as (channel, to):
        for _ in range(5):
            assert (await send(channel, to)).result is PushResult.ACCEPTED
    assert (front.connections, receiver.asked) == (1, 5)


@asynccontextmanager
async def counted_in_front_of(receiver: Receiver) -> AsyncIterator[Counted]:
    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, downstream = await asyncio.open_connection("127.0.0.1", receiver.port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        try:
            await asyncio.gather(copy(reader, downstream), copy(upstream, writer))
        finally:
            downstream.close()

    async with counted(pass_on) as front:
        yield front


# Users' own servers.


async def test_a_users_server_with_a_certificate_for_its_name_gets_the_recap(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server = Receiver(OTHER_SECRET, tls[0])
    try:
        async with users(Names(hooks_example=[[("127.0.0.1", server.port)]]), tls[1], "127.0.0.1") as channel:
            [to], _ = channel.targets(ann(secret=OTHER_SECRET))
            assert (await send(channel, to)).result is PushResult.ACCEPTED
    finally:
        server.stop()
    [event] = server.events.values()
    assert event["data"]["recap"] == RECAP
    assert server.urls == ["/recap?of=ann"]


async def test_a_certificate_that_does_not_fit_means_that_nothing_was_sent(
    tmp_path: Path, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    (tmp_path / "other").mkdir()
    other, trusting = certificates(tmp_path / "other", "other.example")
    left: list[int] = [0]
    cases = ((tls[0], True, 0), (other, trusting, 0), (other, tls[1], 0), (None, tls[1], 1))
    for server_side, client_side, connections in cases:  # with TLS only those count whose handshake ended well
        async with counted(writes(b"HTTP/1.1 200 OK\r\n\r\n"), tls=server_side) as server:
            names = Names(hooks_example=[[("127.0.0.1", server.port)]])
            async with users(names, client_side, "127.0.0.1") as channel:
                to = of_user()
                answer = await channel.send(to, FULL, timedelta(seconds=0.5), lambda: left.append(1))
        assert (answer.result, server.connections, left) == (PushResult.UNSENT, connections, [0])
        assert HOST not in answer.code


@pytest.mark.parametrize(("host", "public"), rows("hostile_urls", "addresses"))
def test_only_a_public_address_in_its_usual_form_may_be_connected_to(host: str, *, public: bool) -> None:
    assert addresses.is_public(host) is public


async def test_no_spelling_of_an_address_reaches_this_machine_or_its_network() -> None:
    """Each is sent to the port of a server that listens on every address of this machine."""
    told, sent = {}, {}
    left: list[int] = [0]
    async with counted(everywhere=True) as server, users(NoNameServer()) as channel:
        for url, _, code, _ in rows("hostile_urls", "urls"):
            targets, told[url] = channel.targets(ann(url.replace(":{port}", "")))
            assert len(targets) + len(told[url]) == 1
            if code:
                answer = await send(channel, of_user(url.replace("{port}", str(server.port))), left)
                sent[url] = (answer.result in (PushResult.REFUSED, PushResult.UNSENT), answer.code)
        assert server.connections == 0
    assert left == [0]
    table = rows("hostile_urls", "urls")
    assert told == {url: [refused] if refused else [] for url, refused, _, _ in table}
    assert sent == {url: (True, code) for url, _, code, _ in table if code}


@pytest.mark.skipif(sys.platform != "linux" or not socket.has_dualstack_ipv6(), reason="has other loopback addresses")
async def test_without_the_check_each_of_them_would_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is the check that holds, and not a spelling that leads nowhere."""
    monkeypatch.setattr(webhook, "USER_SECONDS", 0.2)
    monkeypatch.setattr(webhook, "MAX_SILENT", 1_000)
    reach = [url for url, _, _, reaches in rows("hostile_urls", "urls") if reaches]
    assert len(reach) > 30

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pass

    async with counted(close, everywhere=True) as server:
        channel = connect(None, None, 4, users=True, may_connect=lambda host: True, resolver=NoNameServer())
        for count, url in enumerate(reach, start=1):
            await send(channel, of_user(url.replace("{port}", str(server.port))))
            assert server.connections == count, url
        await channel.aclose()


async def test_a_name_that_leads_elsewhere_at_the_second_look_up_is_refused_then(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    ok = writes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with counted(ok, tls=tls[0]) as public, counted(everywhere=True) as private:
        names = Names(
            hooks_example=[[("127.0.0.1", public.port)], [("127.0.0.2", private.port), ("::1", private.port)]]
        )
        async with users(names, tls[1], "127.0.0.1") as channel:
            assert (await send(channel, of_user())).result is PushResult.ACCEPTED
            channel._users.connector.clear_dns_cache()  # type: ignore[union-attr]
            left: list[int] = [0]
            answer = await send(channel, of_user(), left)
    assert (answer, left) == (PushAnswer(PushResult.REFUSED, "address_refused"), [0])
    assert (public.connections, private.connections, names.asked[HOST]) == (1, 0, 2)


async def test_of_several_addresses_only_the_public_ones_are_tried(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    ok = writes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with counted(ok, tls=tls[0]) as public, counted(everywhere=True) as private:
        mixed = [("127.0.0.2", private.port), ("127.0.0.1", public.port), ("127.0.0.3", private.port)]
        async with users(Names(hooks_example=[mixed]), tls[1], "127.0.0.1") as channel:
            assert (await send(channel, of_user())).result is PushResult.ACCEPTED
    assert (public.connections, private.connections) == (1, 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with counted(everywhere=True) as inner:
        for place in (f"http://127.0.0.1:{inner.port}/", f"https://{HOST}:{inner.port}/", f"//[::1]:{inner.port}/"):
            head = f"HTTP/1.1 {status} Go\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n"
            async with counted(writes(head.encode()), tls=tls[0]) as outer:
                names = Names(hooks_example=[[("127.0.0.1", outer.port)]])
                async with users(names, tls[1], "127.0.0.1") as channel:
                    assert await send(channel, of_user()) == PushAnswer(PushResult.REFUSED, str(status))
        assert inner.connections == 0


async def test_no_proxy_of_the_environment_sees_a_users_webhook(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would connect for us, to whatever the name leads to there."""
    ok = writes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with counted(everywhere=True) as proxy, counted(ok, tls=tls[0]) as server:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with users(Names(hooks_example=[[("127.0.0.1", server.port)]]), tls[1], "127.0.0.1") as channel:
            assert (await send(channel, of_user())).result is PushResult.ACCEPTED
        async with users(Names(hooks_example=[[("10.0.0.1", 443)]])) as channel:
            assert (await send(channel, of_user())).code == "address_refused"
    assert (proxy.connections, server.connections) == (0, 1)


STATUS_KNOWN = {"an endless body", "a body that drips", "silent after headers", "a bomb"}


async def test_each_hostile_server_costs_its_own_user_five_seconds_at_most_and_nobody_else_anything(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """All of them at once, and a good one every tenth of a second meanwhile."""
    silent: dict[str, Behaviour] = {"silent before TLS": writes(b"")}
    servers: dict[str, Counted] = {}
    took: dict[str, float] = {}
    results: dict[str, PushResult] = {}
    async with served(HOSTILE, tls[0], servers), served(silent, None, servers):
        good = Receiver(SECRET, tls[0])
        hosts = {f"h{number}.example": name for number, name in enumerate(servers)}
        answers = {host: [[("127.0.0.1", servers[name].port)]] for host, name in hosts.items()}
        names = Names(**answers, good_example=[[("127.0.0.1", good.port)]])
        tls[1].check_hostname = False
        async with users(names, tls[1], "127.0.0.1") as channel:

            async def try_one(host: str, name: str) -> None:
                started = time.monotonic()
                results[name] = (await send(channel, of_user(f"https://{host}/"))).result
                took[name] = time.monotonic() - started

            trying = asyncio.gather(*(try_one(host, name) for host, name in hosts.items()))
            slowest, count = 0.0, 0
            while not trying.done():
                started = time.monotonic()
                assert (await send(channel, of_user("https://good.example/"))).result is PushResult.ACCEPTED
                slowest, count = max(slowest, time.monotonic() - started), count + 1
                await asyncio.sleep(0.1)
            await trying
        tls[1].check_hostname = True
        good.stop()
    assert {name for name, result in results.items() if result is PushResult.ACCEPTED} == STATUS_KNOWN
    assert results.pop("silent before TLS") is PushResult.UNSENT
    assert {result for name, result in results.items() if name not in STATUS_KNOWN} == {PushResult.UNKNOWN}
    assert {name: server.connections for name, server in servers.items()} == dict.fromkeys(servers, 1)
    assert max(took.values()) < 6.5
    assert max(took[name] for name in STATUS_KNOWN) < 3
    assert slowest < 3
    assert (good.asked, len(good.raw)) == (count, count)


@asynccontextmanager
async def served(
    behaviours: Mapping[str, Behaviour], tls: ssl.SSLContext | None, servers: dict[str, Counted]
) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for name, behave in behaviours.items():
            servers[name] = await stack.enter_async_context(counted(behave, tls=tls))
        yield


@pytest.mark.usefixtures("soon")
async def test_after_three_silent_tries_in_a_row_a_host_is_left_alone_for_the_run(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    ok, is_silent = writes(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), True

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (HOSTILE["silent after the request"] if is_silent else ok)(reader, writer)

    async with counted(behave, tls=tls[0]) as server:
        place = [[("127.0.0.1", server.port)]]
        tls[1].check_hostname = False
        async with users(Names(hooks_example=place, other_example=place), tls[1], "127.0.0.1") as channel:
            for _ in range(2):
                assert (await send(channel, of_user())).result is PushResult.UNKNOWN
            is_silent = False
            assert (await send(channel, of_user())).result is PushResult.ACCEPTED  # in a row
            is_silent = True
            for number in range(3):
                assert (await send(channel, of_user(f"https://{HOST}/{number}"))).result is PushResult.UNKNOWN
            left: list[int] = [0]
            assert await send(channel, of_user(), left) == PushAnswer(PushResult.UNSENT, "host_silent")
            assert (server.connections, left) == (6, [0])
            is_silent = False
            assert (await send(channel, of_user("https://other.example/"))).result is PushResult.ACCEPTED
        tls[1].check_hostname = True


@pytest.mark.usefixtures("soon")
async def test_a_user_who_chooses_the_operators_host_does_not_silence_it(
    receiver: Receiver, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async with counted(HOSTILE["silent after the request"], tls=tls[0]) as server:
        names = Names(localhost=[[("127.0.0.1", server.port)]])
        channel = connect(
            f"http://localhost:{receiver.port}/",
            SECRET,
            4,
            users=True,
            may_connect=lambda host: host == "127.0.0.1",
            resolver=names,
            tls=False,
        )
        for _ in range(4):
            await send(channel, of_user("https://localhost/slow"))
        [to], _ = channel.targets(Recipient("ann"))
        assert (await send(channel, to)).result is PushResult.ACCEPTED
        assert (channel._silent[True, "localhost"], server.connections) == (3, 3)
        await channel.aclose()


async def test_a_host_has_four_connections_at_most(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    server = Receiver(SECRET, tls[0])
    server.seconds = 0.05
    async with users(Names(hooks_example=[[("127.0.0.1", server.port)]]), tls[1], "127.0.0.1") as channel:
        answers = await asyncio.gather(*(send(channel, of_user()) for _ in range(12)))
    server.stop()
    assert [answer.result for answer in answers] == [PushResult.ACCEPTED] * 12
    assert (server.asked, server.most_at_once) == (12, 4)


async def test_who_waits_for_one_of_them_in_vain_is_no_silence_of_the_host(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names()
    async with (
        counted(HOSTILE["silent after the request"], tls=tls[0]) as server,
        users(names, tls[1], "127.0.0.1") as channel,
    ):
        names.hosts[HOST] = [[("127.0.0.1", server.port)]]
        monkeypatch.setattr(webhook, "USER_SECONDS", 1.5)
        first = asyncio.gather(*(send(channel, of_user()) for _ in range(4)))
        await server.has(4)
        monkeypatch.setattr(webhook, "USER_SECONDS", 0.2)
        later = await asyncio.gather(*(send(channel, of_user()) for _ in range(4)))
        assert later == [PushAnswer(PushResult.UNSENT, "TimeoutError")] * 4
        assert channel._silent[True, HOST] == 0
        monkeypatch.setattr(webhook, "USER_SECONDS", 1.5)
        assert {answer.result for answer in await first} == {PushResult.UNKNOWN}
        assert (channel._silent[True, HOST], server.connections) == (4, 4)


@pytest.mark.usefixtures("soon")
def test_a_name_server_that_is_silent_holds_up_neither_other_threads_nor_the_end_of_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = threading.Event()
    real = socket.getaddrinfo

    def slow(host: Any, *given: Any, **more: Any) -> Any:
        if str(host).endswith(".slow.example"):
            told.wait(60)
        return real(host, *given, **more)

    async def run() -> list[PushAnswer]:
        channel = connect(None, None, 4, users=True)
        sent = asyncio.gather(*(send(channel, of_user(f"https://u{user}.slow.example/")) for user in range(50)))
        started = time.monotonic()
        await asyncio.to_thread(lambda: None)
        assert time.monotonic() - started < 2
        answers = await sent
        await channel.aclose()
        return answers

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    started = time.monotonic()
    answers = asyncio.run(run())
    assert time.monotonic() - started < 10
    told.set()
    assert answers == [PushAnswer(PushResult.UNSENT, "TimeoutError")] * 50


async def test_its_own_resolver_finds_what_the_system_finds() -> None:
    resolver = addresses.UserHostResolver()
    found = await resolver.resolve("127.0.0.1", 443, socket.AF_UNSPEC)
    assert [(one["host"], one["port"], one["family"]) for one in found] == [("127.0.0.1", 443, socket.AF_INET)]
    for host in ("a..b", "x" * 70, "nul\0"):
        with pytest.raises(OSError, match="no such host"):
            await resolver.resolve(host, 443, socket.AF_UNSPEC)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(OSError, match="no such host"):
            await resolver.resolve("127.0.0.1", 443, socket.AF_UNSPEC)


def no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.usefixtures("soon")
async def test_no_log_line_has_a_users_host_or_the_operators_url(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    asyncio.get_running_loop().set_debug(True)
    for behave in (HOSTILE["silent after the request"], HOSTILE["no HTTP at all"], writes(b"HTTP/1.1 500 X\r\n\r\n")):
        async with counted(behave, tls=tls[0]) as server:
            for trusted in (tls[1], True):
                names = Names(hooks_example=[[("127.0.0.1", server.port)]])
                async with users(names, trusted, "127.0.0.1") as channel:
                    answer = await send(channel, of_user())
                    assert HOST not in f"{answer}"
    said = caplog.text + "".join(capfd.readouterr())
    assert not any(hidden in said for hidden in (HOST, SECRET, "Two talks"))


class TestUsersWebhook(ChannelSuite):
    """Each user has a URL of their own at one server. That a user's server refuses us is no matter of ours."""

    @pytest.fixture(autouse=True)
    def _served(self, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[None]:
        self.server, self.client = Receiver(SECRET, tls[0]), tls[1]
        yield
        self.server.stop()

    @asynccontextmanager
    async def make(self) -> AsyncIterator[Webhook]:
        self.names = Names(hooks_example=[[("127.0.0.1", self.server.port)]])
        async with users(self.names, self.client, "127.0.0.1") as channel:
            yield channel
            self.server.stop()
            await asyncio.sleep(0.02)  # what waits for its end closes

    def recipient(self, number: int = 1) -> Recipient:
        return replace(ann(f"https://{HOST}/{number}"), uid=f"user-{number}")

    def shown(self) -> list[str]:
        return [event["data"]["body"] for event in self.server.events.values() if event["type"] == "recap.created"]

    def cause(self, trouble: PushTrouble) -> None:
        if trouble is PushTrouble.REFUSES_US:
            super().cause(trouble)
        cause(self.server, trouble)
        if trouble is PushTrouble.DOWN:
            self.names.hosts[HOST] = [[("127.0.0.1", free_port())]]


class TestOwnWebhook(ChannelSuite):
    """The operator's URL is the target of every user."""

    @pytest.fixture(autouse=True)
    def _served(self) -> Iterator[None]:
        self.server = Receiver()
        yield
        self.server.stop()

    @asynccontextmanager
    async def make(self) -> AsyncIterator[Webhook]:
        async with own(self.server.url) as (channel, _):
            yield channel

    def recipient(self, number: int = 1) -> Recipient:
        return Recipient(f"user-{number}")

    def shown(self) -> list[str]:
        return [event["data"]["body"] for event in self.server.events.values() if event["type"] == "recap.created"]

    def cause(self, trouble: PushTrouble) -> None:
        cause(self.server, trouble)

    async def test_a_user_without_an_address_has_no_target(self, push: Channel) -> None:
        assert push.targets(Recipient("bob")) == ([self.target(push)], [])

    async def test_neither_address_nor_secret_is_in_the_name_of_a_target(self, push: Channel) -> None:
        found = self.target(push)
        assert (found.address in repr(found), len(found.id), found) == (False, 16, self.target(push, 2))


def cause(server: Receiver, trouble: PushTrouble) -> None:
    server.status = {PushTrouble.GONE: 410, PushTrouble.BUSY: 503, PushTrouble.REFUSES_US: 403}.get(trouble, 200)
    server.seconds = 30 if trouble is PushTrouble.SLOW else 0
    server.cuts = trouble is PushTrouble.CUT
    if trouble is PushTrouble.DOWN:
        server.stop()
