"""One function a question; each yields rows: what, the figure, the bar, and whether it is reached."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from redis import Redis

from benchmarks.rig import Run, rig
from tests.support.jobs import JOB

LLM_SECONDS = 5.0


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    figure: str
    bar: str
    reached: bool


def spread(values: list[float], unit: str = "") -> str:
    """Median and spread."""
    middle = statistics.median(values)
    around = f" ({min(values):.2f}-{max(values):.2f})" if len(values) > 1 else ""
    return f"{middle:.2f}{unit}{around}"


def throughput(users: int, concurrency: int, bar: float, repeats: int = 3, store: str = "firestore") -> Iterator[Row]:
    """Against the ideal: users x latency / concurrency."""
    ideal = users * LLM_SECONDS / concurrency
    runs: list[Run] = []
    for _ in range(repeats):
        with rig(store, LLM_SECONDS, RECAP_CONCURRENCY=str(concurrency)) as one:
            one.fill(users)
            runs.append(one.job())
        assert runs[-1].stats["calls"] == runs[-1].stats["users"] == users, runs[-1].stats
        assert runs[-1].stats["pushes"] == users, runs[-1].stats
    share = [ideal / run.wall for run in runs]
    middle = statistics.median(share)
    name = f"{users:,} users at {concurrency}, LLM 5 s, {store}"
    yield Row(f"{name}: share of the ideal", spread(share), f">= {bar:.2f}", middle >= bar)
    cpu = [run.cpu / users * 1000 for run in runs]
    yield Row(f"{name}: CPU per user", spread(cpu, " ms"), "<= 6 ms", statistics.median(cpu) <= 6)
    memory = max(run.memory_mb for run in runs)
    yield Row(f"{name}: peak memory", f"{memory:.0f} MB", "<= 200 MB", memory <= 200)
    event = runs[-1].event
    read, wrote = event["documents_read"] / users, event["documents_written"] / users
    if store == "firestore":
        yield Row(f"{name}: documents read per user", f"{read:.2f}", "<= 11.00 (10 + 10 %)", read <= 11.0)
        yield Row(f"{name}: documents written per user", f"{wrote:.2f}", "3.00", wrote == 3.0)
    first = [run.first_push for run in runs]
    bound = LLM_SECONDS + 3
    yield Row(f"{name}: first push after", spread(first, " s"), f"<= {bound:g} s", statistics.median(first) <= bound)


def beside_the_plain_job(users: int = 200) -> Iterator[Row]:
    """Users per second, whole processes, side by side."""
    with rig("firestore", LLM_SECONDS, RECAP_CONCURRENCY=str(users)) as one:
        one.fill(users)
        ours = one.job()
        assert ours.stats["calls"] == users
        one.redis.ask("FLUSHALL")
        one.stats()
        today = datetime.now(UTC).date().isoformat()
        plain = one.end(*one.start("-m", "benchmarks.plain_job", PLAIN_DATE=today, PYTHONPATH=str(JOB.parent)))
        assert plain.stats["users"] == users, (plain.code, plain.stats)
    ratio = plain.wall / ours.wall
    yield Row(
        f"{users} users: times the plain job's users per second",
        f"{ratio:.1f} ({ours.wall:.1f} s and {plain.wall:.1f} s)",
        ">= 25",
        ratio >= 25,
    )


def idle(repeats: int = 7) -> Iterator[Row]:
    """A tick with nothing to do, beside the bare import of what it needs, in turn."""
    with rig("firestore", 0.0) as one:
        one.fill(1)
        one.job()
        ratios = []
        tick = one.job()
        for _ in range(repeats):
            begun = time.perf_counter()
            subprocess.run([sys.executable, "-c", "import redis.asyncio, structlog"], check=True)
            bare = time.perf_counter() - begun
            tick = one.job()
            assert tick.event["idle"] is True
            ratios.append(tick.wall / bare)
        read = tick.event["documents_read"]
    middle = statistics.median(ratios)
    yield Row("idle tick: times the import of redis.asyncio and structlog", spread(ratios), "<= 2", middle <= 2)
    yield Row("idle tick: documents read", str(read), "0", read == 0)


def redis_cost(users: int = 1000) -> Iterator[Row]:
    """Bytes and round trips per finished user, and what is left at slot + 3 h."""
    with rig("sqlite", 0.0) as one, Redis(port=one.redis.port) as client:
        one.fill(users)
        one.job()
        keys = list(client.scan_iter("users:*", count=1000))
        assert len(keys) == users
        size = sum(client.memory_usage(key) or 0 for key in keys) / users
        calls = sum(found["calls"] for name, found in client.info("commandstats").items() if "eval" in name)
        now = datetime.now(UTC)
        slot = now.replace(minute=0, second=0, microsecond=0)
        ends = slot.timestamp() + 3 * 3600
        late = sum((client.pttl(key) / 1000 + time.time()) > ends + 2 for key in client.scan_iter("*"))
    yield Row("Redis: bytes per finished user", f"{size:.0f}", "< 260", size < 260)
    yield Row("Redis: round trips per user", f"{calls / users:.2f}", "<= 3", calls / users <= 3)
    yield Row("Redis: keys left after slot + 3 h", str(late), "0", late == 0)


def parallel(users: int = 600, tasks: tuple[int, ...] = (1, 2, 4)) -> Iterator[Row]:
    """Parallel tasks where the LLM's latency is the limit, 16 shards."""
    walls: dict[int, float] = {}
    for count in tasks:
        with rig("sqlite", LLM_SECONDS, RECAP_SHARDS="16", RECAP_CONCURRENCY="20") as one:
            one.fill(users)
            begun = time.time()
            started = [
                one.start(str(JOB), CLOUD_RUN_TASK_INDEX=str(n), CLOUD_RUN_TASK_COUNT=str(count)) for n in range(count)
            ]
            for process in started:
                one.end(*process)
            walls[count] = time.time() - begun
            stats = one.stats()
            assert stats["calls"] == stats["users"] == users, stats
            assert stats["pushes"] == users, stats
    for count in tasks[1:]:
        ratio = walls[1] / walls[count]
        yield Row(f"{count} processes, 16 shards: times one", f"{ratio:.2f}", ">= 1.8", ratio >= 1.8)


def growth(sizes: tuple[int, int], store: str) -> Iterator[Row]:
    """Users per second and CPU per user, small and large, without an LLM's latency."""
    figures: list[tuple[float, float]] = []
    for users in sizes:
        with rig(store, 0.0, 0.0) as one:
            one.fill(users)
            run = one.job()
            assert run.stats["pushes"] == users, run.stats
            figures.append((users / (run.wall - 1.2), (run.cpu - 1.2) / users * 1000))
    (rate, cpu), (large_rate, large_cpu) = figures
    yield Row(
        f"{sizes[0]:,} to {sizes[1]:,} users on {store}: users per second",
        f"{rate:.0f} to {large_rate:.0f}",
        "within 10 %",
        large_rate >= 0.9 * rate,
    )
    yield Row(
        f"{sizes[0]:,} to {sizes[1]:,} users on {store}: CPU per user",
        f"{cpu:.2f} to {large_cpu:.2f} ms",
        "within 10 %",
        large_cpu <= 1.1 * cpu,
    )


def memory(small: int = 5_000, large: int = 250_000) -> Iterator[Row]:
    """Peak memory of a large cohort, one in fifty with content, beside a small one."""
    found = []
    for users, with_content in ((small, 1), (large, 50)):
        with rig("sqlite", 0.05, 0.0, RECAP_CONCURRENCY="200") as one:
            one.fill(users, with_content)
            found.append(one.job().memory_mb)
    ratio = found[1] / found[0]
    yield Row(
        f"peak memory at {large:,} users beside {small:,}",
        f"{found[1]:.0f} and {found[0]:.0f} MB ({ratio:.2f})",
        "<= 1.15",
        ratio <= 1.15,
    )


CASES: dict[str, Callable[[], Iterator[Row]]] = {
    "idle": idle,
    "redis": redis_cost,
    "plain": beside_the_plain_job,
    "200": lambda: throughput(2_000, 200, 0.90),
    "500": lambda: throughput(5_000, 500, 0.80),
    "parallel": parallel,
    "growth-sqlite": lambda: growth((1_000, 50_000), "sqlite"),
    "growth-firestore": lambda: growth((500, 5_000), "firestore"),
    "memory": memory,
}
