"""What it costs: round trips, bytes, documents and memory; and an idle tick."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Iterator
from datetime import timedelta
from typing import Any

from redis import Redis

from benchmarks.rig import rig, seconds_of, uid_of
from benchmarks.table import Row, spread
from tests.support.jobs import JOB

AFTER_SLOT = timedelta(hours=3)
# As requirements.txt has it: the tests' environment has OpenTelemetry's SDK too, which redis-py then loads.
BARE = "import sys; sys.modules['opentelemetry.sdk.metrics'] = None; import redis.asyncio, structlog"
CLOCKS_APART = 2.0  # seconds between our clock and Redis's


def idle(repeats: int = 7) -> Iterator[Row]:
    """A tick with nothing to do, beside the bare import of what it needs, in turn."""
    with rig("sqlite", 0.0) as one:
        one.fill(1)
        one.job()
        ratios = []
        for _ in range(repeats):
            bare = seconds_of(BARE)
            tick = one.job()
            assert tick.event["idle"] is True
            ratios.append(tick.wall / bare)
    middle = statistics.median(ratios)
    yield Row("idle tick: times the import of redis.asyncio and structlog", spread(ratios), "<= 1.5", middle <= 1.5)


def idle_counts() -> Iterator[Row]:
    """An idle tick's round trips to Redis, and the documents that it reads."""
    with rig("firestore", 0.0) as one, Redis(port=one.redis.port) as client:
        one.fill(1)
        one.job()
        before = _calls(client)
        tick = one.job()
        trips = {name: calls - before.get(name, 0) for name, calls in _calls(client).items()}
        assert tick.event["idle"] is True
    asked = trips["time"] + bool(trips["get"])  # the GETs of all shards are one pipeline
    yield Row("idle tick: round trips to Redis", str(asked), "<= 2", asked <= 2)
    read = tick.event["documents_read"]
    yield Row("idle tick: documents read", str(read), "0", read == 0)


def _calls(client: Redis) -> dict[str, int]:
    return {name.removeprefix("cmdstat_"): found["calls"] for name, found in client.info("commandstats").items()}


def redis_cost(users: int = 1000) -> Iterator[Row]:
    """Bytes and round trips per finished user, and what is left at slot + 3 h."""
    with rig("sqlite", 0.0) as one, Redis(port=one.redis.port) as client:
        slot = one.fill(users)
        one.job()
        keys = list(client.scan_iter("users:*", count=1000))
        assert len(keys) == users
        size = sum(client.memory_usage(key) or 0 for key in keys) / users
        trips = sum(calls for name, calls in _calls(client).items() if "eval" in name) / users
        ends = (slot.at + AFTER_SLOT).timestamp() + CLOCKS_APART
        late = sum(client.pttl(key) / 1000 + time.time() > ends for key in keys)
    yield Row("Redis: bytes per finished user", f"{size:.0f}", "< 260", size < 260)
    yield Row("Redis: round trips per user", f"{trips:.2f}", "<= 3", trips <= 3)
    yield Row("Redis: users' keys left after slot + 3 h", str(late), "0", late == 0)


# docs/protocol.md, section 5, document by document, read and written; an empty answer is billed as one.
NAMED = {
    # user, ledgers, summary, two conversations, a device, begin and the four ledgers around; report reads nothing
    "sent": (1 + 1 + 1 + 2 + 1 + 3 + 4, 3),
    "skipped": (1 + 1 + 1 + 1 + 2 + 4, 1),  # user, ledgers, summary, no conversation; close: user, ledger, those around
    "without devices": (1 + 1 + 1 + 2 + 2 + 3 + 4, 2),  # no device document and no legacy token; no report
    # four ledgers, which have ended: none of them is read again; the conversations of two days
    "sent, after a week": (1 + 4 + 1 + 4 + 1 + 3, 3),
    "skipped, after a week": (1 + 4 + 1 + 1 + 2, 1),
}


def documents(users: int = 20, *, names: Collection[str] = tuple(NAMED)) -> Iterator[Row]:
    """Documents read and written per due user, by outcome; what the pages and the sweep read is left out."""
    kinds: dict[str, dict[str, Any]] = {"sent": {}, "skipped": {"talks": 0}, "without devices": {"devices": 0}}
    kinds |= {f"{kind}, after a week": {**kinds[kind], "history": True} for kind in ("sent", "skipped")}
    with rig("firestore", 0.0, 0.0) as one:
        for kind, changes in ((name, kinds[name]) for name in names):
            found = []
            for count in (users, 2 * users):
                with one.emptied():
                    one.fill(count, **changes)
                    found.append(one.job().event)
            read, wrote = (
                (found[1][name] - found[0][name]) / users for name in ("documents_read", "documents_written")
            )
            bar = NAMED[kind]
            reached = (read, wrote) <= bar and wrote <= bar[1]
            figure, most = f"{read:g} and {wrote:g}", f"{bar[0]} and {bar[1]}"
            yield Row(f"documents per user, {kind}: read and written", figure, most, reached)


def memory(small: int = 5_000, large: int = 250_000, recaps: int = 1_000) -> Iterator[Row]:
    """Peak memory of a large cohort beside a small one, with as many recaps in both."""
    found = []
    for users in (small, large):
        with rig("sqlite", 0.05, 0.0, RECAP_CONCURRENCY="200") as one:
            one.fill(users, users // recaps)
            run = one.job()
            assert run.stats["pushes"] == recaps, run.stats
            found.append(run.memory_mb)
    ratio = found[1] / found[0]
    figure = f"{ratio:.2f}: {found[1]:.0f} and {found[0]:.0f} MB"
    yield Row(f"peak memory at {large:,} users: times that at {small:,}", figure, "<= 1.15", ratio <= 1.15)


def operators(small: int = 10_000, large: int = 100_000, repeats: int = 3) -> Iterator[Row]:
    """What operators type, among many users, beside an idle tick: the process's own start."""
    peaks = []
    for users in (small, large):
        with rig("sqlite", 0.0) as one:
            slot = one.fill_delivered(users)
            day = ("--date", slot.recap_date.isoformat())
            run = one.end(*one.start(str(JOB), "audit", "--json", *day))
            assert run.event["counts"]["sent"] == run.event["counts"]["due"] == users, run.event
            peaks.append(run.memory_mb)
            if users == small:
                continue
            one.end_hour()
            one.job()  # the sweep of the last ten minutes
            asked = {
                ("why", uid_of(users // 2)): 2.0,
                ("inspect", "--where", "sent", *day): 3.0,
                ("audit", *day): 10.0,
                ("report", *day, "-o", "-"): 12.0,
            }
            ratios: dict[tuple[str, ...], list[float]] = {command: [] for command in asked}
            walls: dict[tuple[str, ...], float] = {}
            for _ in range(repeats):
                for command in asked:
                    start = one.job()
                    assert start.event["idle"] is True, start.event
                    run = one.end(*one.start(str(JOB), *command))
                    assert run.code == 0, run
                    ratios[command].append(run.wall / start.wall)
                    walls[command] = run.wall
            for command, bar in asked.items():
                name = " ".join(command[:2] if command[0] == "inspect" else command[:1])
                figure = f"{spread(ratios[command])}: {walls[command]:.1f} s"
                reached = statistics.median(ratios[command]) <= bar
                yield Row(f"{name} among {users:,} users: times an idle tick", figure, f"<= {bar:g}", reached)
    ratio = peaks[1] / peaks[0]
    yield Row(
        f"audit: peak memory at {large:,} users, times that at {small:,}", f"{ratio:.2f}", "<= 1.15", ratio <= 1.15
    )
