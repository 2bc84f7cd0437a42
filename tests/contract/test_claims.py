"""The claim scripts by the suite of the port, on every Redis that this machine has, alone and as a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from notifications.adapters.claims.redis import connect
from notifications.domain.claim import ClaimAnswer, ClaimState, new_token
from notifications.domain.errors import ClaimsDown, ConfigFault
from notifications.ports import Claims
from notifications.testing import ClaimsSuite, MemoryClaims
from notifications.testing.claims_suite import KEY, RedisCommands, terms
from tests.support.servers import RedisServer, cluster_of_two, redis_binaries

REAL = [
    pytest.param((kind, path), id=f"{kind}-{n}", marks=[pytest.mark.servers] if kind == "cluster" else [])
    for n, path in enumerate(redis_binaries())
    for kind in ("alone", "cluster")
]


@pytest.fixture(scope="module", params=REAL)
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    kind, binary = request.param
    folder = tmp_path_factory.mktemp(kind)
    started = cluster_of_two(folder, binary) if kind == "cluster" else [RedisServer(folder, binary=binary)]
    yield started
    for server in started:
        server.kill()


class Redises(ClaimsSuite):
    def commands(self, claims: Any) -> RedisCommands:
        commands: RedisCommands = claims._client
        return commands


class TestMemoryClaims(Redises):
    @asynccontextmanager
    async def make(self) -> AsyncIterator[Claims]:
        yield MemoryClaims()


class TestRedisClaims(Redises):
    servers: list[RedisServer]

    @pytest.fixture(autouse=True)
    def _empty(self, servers: list[RedisServer]) -> None:
        self.servers = servers
        for server in servers:
            server.ask("FLUSHALL")

    @asynccontextmanager
    async def make(self) -> AsyncIterator[Claims]:
        url = self.servers[0].url + ("?cluster=true" if len(self.servers) > 1 else "")
        claims = connect(url, connections=8, timeout_seconds=2)
        yield claims
        await claims.aclose()

    async def test_scripts_survive_a_flush_of_the_script_cache(self, claims: Claims) -> None:
        t = await terms(claims)
        assert (await claims.claim(t, "me", 0)).answer is ClaimAnswer.WON
        for server in self.servers:
            server.ask("SCRIPT", "FLUSH")
        assert (await claims.complete(t, "me", ClaimState.SENT)).answer is ClaimAnswer.OK


async def test_server_trouble_is_neither_a_win_nor_a_loss(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "r", "--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
    claims = connect(server.url, connections=2, timeout_seconds=1)
    t = await terms(claims)
    try:
        server.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(ClaimsDown, match="answers OOM"):
            await claims.claim(t, "me", 0)
        server.ask("CONFIG", "SET", "maxmemory", "0")
        server.ask("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(ClaimsDown, match="answers READONLY"):
            await claims.claim(t, "me", 0)
        server.kill()
        with pytest.raises(ClaimsDown, match="does not answer"):
            await claims.claim(t, "me", 0)
    finally:
        await claims.aclose()
        server.kill()


async def test_a_cluster_without_its_mark_and_a_wrong_password_are_named(tmp_path: Path) -> None:
    nodes = cluster_of_two(tmp_path, redis_binaries()[0])
    plain = connect(nodes[0].url, connections=2, timeout_seconds=1)
    locked = RedisServer(tmp_path / "locked")
    locked.ask("CONFIG", "SET", "requirepass", "secret")
    wrong = connect(f"redis://:wrong@127.0.0.1:{locked.port}/0", connections=2, timeout_seconds=1)
    try:
        with pytest.raises(ConfigFault, match="cluster=true"):
            await plain.read([KEY, "other", "third", "fourth"])
        with pytest.raises(ConfigFault, match="refuses the user or password"):
            await wrong.now()
    finally:
        await plain.aclose()
        await wrong.aclose()
        for server in (*nodes, locked):
            server.kill()


async def test_it_warns_about_eviction_and_a_missing_append_only_file(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "r", "--maxmemory-policy", "allkeys-lru", "--appendonly", "no")
    claims = connect(server.url, connections=2, timeout_seconds=1)
    try:
        evicts, forgets = await claims.warnings()
        assert "maxmemory-policy noeviction" in evicts
        assert "appendonly yes" in forgets
    finally:
        await claims.aclose()
        server.kill()


async def test_an_acl_may_hide_the_settings_but_not_what_claims_need(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "r")
    server.ask("ACL", "SETUSER", "shy", "on", ">secret", "~*", "+@all", "-info")
    server.ask("ACL", "SETUSER", "idle", "on", ">secret", "~*", "+@all", "-evalsha", "-eval")
    shy, idle = (
        connect(f"redis://{user}:secret@127.0.0.1:{server.port}/0", connections=2, timeout_seconds=1)
        for user in ("shy", "idle")
    )
    try:
        assert await shy.warnings() == []
        assert (await shy.claim(await terms(shy), new_token(), 0)).answer is ClaimAnswer.WON
        with pytest.raises(ConfigFault, match="correct its ACL"):
            await idle.claim(await terms(idle), new_token(), 0)
    finally:
        await shy.aclose()
        await idle.aclose()
        server.kill()
