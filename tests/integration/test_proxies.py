"""Proxies of the environment, by a real one that counts: each client of a run goes through it, or none does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.support.google import ThreadedServer, TokenServer, pump
from tests.support.jobs import Stage
from tests.support.watchers import Beats, Collector

SECRET = "proxy-user:proxy-secret"


class CountingProxy(ThreadedServer):
    """Forwards to the port of the host that is asked for; a host without one gets 502."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()  # connections by host
        self.ports: dict[str, int] = {}
        super().__init__()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        host = head.split()[1].decode().removeprefix("http://").split("/")[0].split(":")[0]
        self.asked[host] += 1
        if host not in self.ports:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        upstream, downstream = await asyncio.open_connection("127.0.0.1", self.ports[host])
        downstream.write(head)
        await asyncio.gather(pump(reader, downstream), pump(upstream, writer), return_exceptions=True)

    @property
    def env(self) -> dict[str, str]:
        return dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), f"http://{SECRET}@127.0.0.1:{self.port}")


@pytest.fixture
def proxy() -> Iterator[CountingProxy]:
    server = CountingProxy()
    yield server
    server.stop()


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    server = TokenServer()
    yield server
    server.stop()


@pytest.fixture
def watchers() -> Iterator[tuple[Beats, Collector]]:
    servers = Beats(), Collector()
    yield servers
    for server in servers:
        server.stop()


@pytest.mark.parametrize("world", ["firestore"], indirect=True)
def test_each_client_goes_through_the_proxy_and_none_that_is_on_this_machine(
    stage: Stage, proxy: CountingProxy, tokens: TokenServer, watchers: tuple[Beats, Collector], tmp_path: Path
) -> None:
    beats, collector = watchers
    stage.settings |= proxy.env | tokens.account_file(tmp_path)
    here = {"RECAP_HEARTBEAT_URL": beats.url, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    stage.add_user("ann")
    local = stage.run(**here)
    assert (local.code, stage.fcm.accepted, proxy.asked) == (0, {"token-ann-0": 1}, {})
    assert (stage.llm.calls, tokens.given, len(beats.told)) == ({"ann": 1}, 1, 2)
    assert set(collector.requests) == {"/v1/metrics", "/v1/traces"}
    proxy.ports = {"llm.example": stage.llm.port, "beat.example": beats.port, "otel.example": collector.port}
    proxy.ports["token.example"] = tokens.port
    account = tmp_path / "account.json"
    account.write_text(
        account.read_text(encoding="utf-8").replace(tokens.url, "http://token.example"), encoding="utf-8"
    )
    away = {
        "OPENAI_BASE_URL": "http://llm.example/v1",
        "FCM_BASE_URL": "https://fcm.example",
        "RECAP_HEARTBEAT_URL": "http://beat.example/away",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://otel.example",
    }
    stage.add_user("bob")
    with Redis(port=stage.redis.port) as client:
        client.flushall()  # whose shard was served
    finished = stage.run(**away)
    assert set(proxy.asked) == {"llm.example", "fcm.example", "beat.example", "otel.example", "token.example"}
    assert (proxy.asked["fcm.example"], proxy.asked["beat.example"], proxy.asked["token.example"]) == (1, 2, 1)
    assert (stage.llm.calls, tokens.given, len(beats.told)) == ({"ann": 1, "bob": 1}, 2, 4)
    assert "proxy-secret" not in finished.out + finished.err
    refused = stage.run(**away | {"HTTPS_PROXY": f"socks5://{SECRET}@127.0.0.1:1"})
    assert (refused.code, refused.err) == (
        3,
        "HTTPS_PROXY is no proxy that every client here can use; write http://host:port, or unset it.\n",
    )
