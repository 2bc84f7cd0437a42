"""Fixtures: every test gets servers, projects and folders of its own, on loopback.

What a fixture opens it imports itself: a test of the domain needs pytest and hypothesis alone.
"""

from __future__ import annotations

import os
import signal
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from notifications.testing import World
    from tests.support.cloud import Cloud
    from tests.support.jobs import Stage
    from tests.support.layouts import Shape
    from tests.support.servers import RedisServer
    from tests.support.web import FakeFCM, FakeLLM
    from tests.support.worlds import FirestoreWorld, SqliteWorld

# A busy machine must not fail a property: how long an example takes is for the benchmarks.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("mutants", deadline=None, max_examples=30, derandomize=True)
settings.register_profile("wide", parent=settings.get_profile("untimed"))  # each such test says how wide
settings.load_profile(os.environ.get("RECAP_TEST_PROFILE", "untimed"))

# A shell starts what it sends to the background deaf to SIGINT, and every job that the tests start would be.
# Set here, once: a `preexec_fn` that sets it for a child runs after a fork, in which gRPC's threads crash.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

NO_EMULATOR = "needs the Firestore emulator: the Google Cloud CLI with Java, or FIRESTORE_EMULATOR_HOST"


def run_folder(config: pytest.Config) -> Path:
    """A folder that all workers of this run share."""
    worker = getattr(config, "workerinput", None)
    name = worker["testrunuid"] if worker else config.stash[RUN]
    return Path(tempfile.gettempdir()) / f"recap-tests-{name}"


RUN = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RUN] = uuid.uuid4().hex


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Workers and the controller agree on the shared folder."""
    node.workerinput["testrunuid"] = node.config.stash[RUN]  # type: ignore[attr-defined]


# Modules whose tests also run on an app of another shape (tests/support/layouts.py).
ON_BOTH_SHAPES = {"test_told_once", "test_operators", "test_pages"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = metafunc.module.__name__.rpartition(".")
    is_ours = module[2] in ON_BOTH_SHAPES and "inspect" not in metafunc.function.__name__  # which is about Redis
    if "stage" in metafunc.fixturenames and is_ours and module[0].endswith("integration"):
        metafunc.parametrize("shape", ["default", "other"], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "emulator" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.servers)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and run_folder(config).exists():
        from tests.support.servers import stop_shared_emulator

        stop_shared_emulator(run_folder(config))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many sweep points were survived, over all workers."""
    points: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        points.update({name: value for name, value in report.user_properties if name.endswith("_survived")})
    for name, count in sorted(points.items()):
        terminalreporter.write_line(f"{name.replace('_', ' ')}: {count}")


@pytest.fixture(scope="session")
def emulator(request: pytest.FixtureRequest) -> str:
    """host:port of a Firestore emulator."""
    from tests.support.servers import shared_emulator

    host = shared_emulator(run_folder(request.config))
    if host is None:
        if os.environ.get("CI") == "true":
            pytest.fail(NO_EMULATOR)
        pytest.skip(NO_EMULATOR)
    return host


@pytest.fixture
def shape(request: pytest.FixtureRequest) -> Shape:
    """The app's: that of docs/documents.md, unless the test asks for "other"."""
    from tests.support import layouts

    return layouts.OTHER if getattr(request, "param", "") == "other" else layouts.DEFAULT


@pytest.fixture
def firestore_world(emulator: str, shape: Shape, monkeypatch: pytest.MonkeyPatch) -> Iterator[FirestoreWorld]:
    from tests.support.worlds import FirestoreWorld

    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator)
    world = FirestoreWorld(emulator, shape=shape)
    yield world
    world.close()


@pytest.fixture
def sqlite_world(tmp_path: Path, shape: Shape) -> Iterator[SqliteWorld]:
    from tests.support.worlds import SqliteWorld

    world = SqliteWorld(tmp_path / "data", shape)
    yield world
    world.close()


@pytest.fixture(params=["sqlite", "firestore"])
def world(request: pytest.FixtureRequest, shape: Shape) -> World:
    """Each store in turn."""
    found: World = request.getfixturevalue(f"{request.param}_world")
    return found


@pytest.fixture
def redis(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of its own, of the binary that the test asks for. Fails the test that leaves a key without a TTL."""
    from tests.support.servers import RedisServer

    server = RedisServer(tmp_path / "redis", binary=getattr(request, "param", None))
    yield server
    if server.process is not None:
        leaks = server.ask(
            "EVAL",
            "local n = 0 for _, k in ipairs(redis.call('KEYS', '*')) do "
            "if redis.call('PTTL', k) < 0 then n = n + 1 end end return n",
            "0",
        )
        server.kill()
        assert leaks == b":0", "a Redis key was left without a TTL"


@pytest.fixture
def llm() -> Iterator[FakeLLM]:
    from tests.support.web import FakeLLM

    server = FakeLLM()
    yield server
    server.stop()


@pytest.fixture
def fcm() -> Iterator[FakeFCM]:
    from tests.support.web import FakeFCM

    server = FakeFCM()
    yield server
    server.stop()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    """An empty project, with a gcloud that remembers."""
    from tests.support.cloud import Cloud

    made = Cloud(tmp_path)
    yield made
    made.admin.stop()


@pytest.fixture
def stage(world: World, redis: RedisServer, llm: FakeLLM, fcm: FakeFCM, tmp_path: Path) -> Iterator[Stage]:
    """All parts, and `job.py` processes over them."""
    from tests.support.jobs import Stage

    stage = Stage(world, redis, llm, fcm, tmp_path)
    yield stage
    stage.stop_all()
