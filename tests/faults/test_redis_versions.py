"""Redis in trouble, at the start and midway: the same sentence and exit code on every Redis that there is."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web
from redis import Redis

from tests.support.jobs import Stage, on_sqlite, one_sentence
from tests.support.servers import RedisServer, free_port, redis_binaries, wait_for
from tests.support.web import FakeFCM, FakeLLM
from tests.support.worlds import SqliteWorld

Deed = Callable[[RedisServer], None]


def out_of_memory(redis: RedisServer) -> None:
    redis.ask("CONFIG", "SET", "maxmemory", "1")


def read_only(redis: RedisServer) -> None:
    redis.ask("REPLICAOF", "127.0.0.1", "1")


def master_down(redis: RedisServer) -> None:
    redis.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
    redis.ask("REPLICAOF", "127.0.0.1", "1")


def loading(redis: RedisServer) -> None:
    """Restarts with an append-only file that takes long to read."""
    with Redis(port=redis.port) as client:
        pipe = client.pipeline(transaction=False)
        for n in range(100_000):
            pipe.set(f"filler-{n}", "x")
        pipe.execute()
    redis.kill()
    redis.options = (*redis.options, "--key-load-delay", "100")  # us; it answers between every thousand keys
    redis.start(wait=False)
    wait_for(lambda: redis.says("PING").startswith(b"-LOADING"), "a Redis that loads")


def no_permission(redis: RedisServer) -> None:
    redis.ask("ACL", "SETUSER", "default", "-get", "-eval", "-evalsha")


def no_slots(redis: RedisServer) -> None:
    with Redis(port=redis.port) as client:
        client.execute_command("CLUSTER", "DELSLOTS", *range(16384))


DEEDS: dict[str, tuple[Deed, int, str]] = {
    "OOM": (out_of_memory, 4, "answers OOM; nothing is claimed until it serves again."),
    "READONLY": (read_only, 4, "answers READONLY; nothing is claimed until it serves again."),
    "LOADING": (loading, 4, "answers LOADING; nothing is claimed until it serves again."),
    "MASTERDOWN": (master_down, 4, "answers MASTERDOWN; nothing is claimed until it serves again."),
    "CLUSTERDOWN": (no_slots, 4, "answers CLUSTERDOWN; nothing is claimed until it serves again."),
    "NOPERM": (no_permission, 3, "does not permit this user what claims need; correct its ACL."),
}
BINARIES = {f"server-{n}": binary for n, binary in enumerate(redis_binaries())}


@pytest.fixture(params=BINARIES)
def binary(request: pytest.FixtureRequest) -> Path:
    return BINARIES[request.param]


@pytest.fixture(params=DEEDS)
def trouble(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def on_this_redis(
    binary: Path, trouble: str, sqlite_world: SqliteWorld, llm: FakeLLM, fcm: FakeFCM, tmp_path: Path
) -> Iterator[Stage]:
    cluster = trouble == "CLUSTERDOWN"
    options = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf") if cluster else ()
    redis = RedisServer(tmp_path / "redis", *options, binary=binary)
    if cluster:
        with Redis(port=redis.port) as client:
            client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        wait_for(lambda: b"cluster_state:ok" in redis.whole("CLUSTER", "INFO"), "a cluster")
    stage = Stage(sqlite_world, redis, llm, fcm, tmp_path)
    stage.settings |= {"RECAP_CONCURRENCY": "1", "RECAP_REDIS_TIMEOUT_SECONDS": "2"}
    for uid in ("ann", "bob", "cat"):
        stage.add_user(uid)
    yield stage
    stage.stop_all()
    redis.kill()


def test_redis_in_trouble_at_the_start(on_this_redis: Stage, trouble: str) -> None:
    stage = on_this_redis
    deed, code, told = DEEDS[trouble]
    deed(stage.redis)
    finished = stage.run()
    assert (finished.code, one_sentence(finished.err)) == (code, f"Redis at 127.0.0.1:{stage.redis.port} {told}")
    assert stage.llm.calls == {}


def test_redis_in_trouble_midway(on_this_redis: Stage, trouble: str) -> None:
    """The user in flight is finished on the store alone; nobody else is begun; the accounts are told."""
    stage = on_this_redis
    deed, code, told = DEEDS[trouble]

    async def strike(who: str) -> web.Response | None:
        if stage.llm.calls.total() == 1:
            deed(stage.redis)
        return None

    stage.llm.script = strike
    finished = stage.run()
    assert (finished.code, one_sentence(finished.err)) == (code, f"Redis at 127.0.0.1:{stage.redis.port} {told}")
    assert stage.llm.calls == {"ann": 1}
    assert stage.fcm.accepted == {"token-ann-0": 1}
    event = finished.event("tick.finished")
    assert sum(event[name] for name in ("sent", "failed", "stopped")) == event["due"]


def test_a_redis_whose_scripts_are_hidden_is_bad_configuration(
    binary: Path, sqlite_world: SqliteWorld, llm: FakeLLM, fcm: FakeFCM, tmp_path: Path
) -> None:
    """It read as nobody due, exit 0, all evening."""
    redis = RedisServer(tmp_path / "redis", "--rename-command", "EVALSHA", "", binary=binary)
    stage = Stage(sqlite_world, redis, llm, fcm, tmp_path)
    stage.add_user("ann")
    finished = stage.run()
    redis.kill()
    assert (finished.code, "lacks a command that claims need" in one_sentence(finished.err)) == (3, True), finished.err


@on_sqlite
@pytest.mark.parametrize("url", ["redis://127.0.0.1:{free}/0?cluster=true", "redis://127.0.0.1:{redis}/0?cluster=true"])
def test_no_cluster_behind_the_address_of_one(stage: Stage, url: str) -> None:
    finished = stage.run(REDIS_URL=url.format(free=free_port(), redis=stage.redis.port))
    assert (finished.code, "check" in one_sentence(finished.err)) == (4, True), finished.err


def test_a_node_that_dies_midway_stops_the_run(
    sqlite_world: SqliteWorld, llm: FakeLLM, fcm: FakeFCM, tmp_path: Path
) -> None:
    from tests.support.servers import cluster_of_two

    nodes = cluster_of_two(tmp_path / "cluster", redis_binaries()[1])
    stage = Stage(sqlite_world, nodes[0], llm, fcm, tmp_path)
    stage.settings |= {"RECAP_CONCURRENCY": "1", "RECAP_REDIS_TIMEOUT_SECONDS": "0.5"}
    for n in range(12):
        stage.add_user(f"user-{n}")

    async def strike(who: str) -> web.Response | None:
        nodes[1].kill()
        return None

    llm.script = strike
    try:
        finished = stage.run(REDIS_URL=f"{nodes[0].url}?cluster=true")
        assert finished.code == 4, finished.err
        assert "Redis at 127.0.0.1" in one_sentence(finished.err)
        assert finished.event("tick.finished")["defects"] == 0
    finally:
        stage.stop_all()
        for node in nodes:
            node.kill()


@on_sqlite
def test_every_minute_goes_on_while_a_cluster_has_no_nodes(stage: Stage) -> None:
    process = stage.start("--every-minute", REDIS_URL=f"redis://127.0.0.1:{free_port()}/0?cluster=true")
    with pytest.raises(subprocess.TimeoutExpired):
        stage.end(process, 4)
    process.send_signal(signal.SIGTERM)
    finished = stage.end(process)
    assert finished.code == 0
    assert "not a complete Redis Cluster" in finished.err


@on_sqlite
def test_a_password_that_changes_midway_is_bad_configuration_and_the_accounts_are_told(stage: Stage) -> None:
    stage.settings |= {"RECAP_CONCURRENCY": "1", "RECAP_SHARD_LEASE_SECONDS": "4", "RECAP_SHARD_RENEW_SECONDS": "0.2"}
    for uid in ("ann", "bob"):
        stage.add_user(uid)

    async def strike(who: str) -> web.Response | None:
        with Redis(port=stage.redis.port) as client:
            client.config_set("requirepass", "new")
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        stage.llm.latency = 0.0
        return None

    stage.llm.script = strike
    finished = stage.run()
    with Redis(port=stage.redis.port, password="new") as client:
        client.config_set("requirepass", "")
    assert (finished.code, one_sentence(finished.err)) == (
        3,
        f"Redis at 127.0.0.1:{stage.redis.port} refuses the user or password in REDIS_URL; correct them.",
    )
    event = finished.event("tick.finished")
    assert (event["due"], event["failed"] + event["stopped"] + event["sent"]) == (2, 2)
    assert stage.llm.calls == {"ann": 1}
