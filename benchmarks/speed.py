"""How fast: against the ideal, beside the plain job, in parallel, and as the users grow."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from benchmarks.rig import Rig, Run, Started, rig, seconds_of
from benchmarks.table import Row, spread
from tests.support.jobs import JOB

LLM_SECONDS = 5.0, 2.0  # for the recap, and for the second look at it
PROCESSES = 4
VENDORS = "import openai, aiohttp, redis.asyncio, google.auth, google.cloud.firestore"


def _ideal(users: int, concurrency: int) -> float:
    return users * sum(LLM_SECONDS) / concurrency


def throughput(users: int, concurrency: int, bar: float) -> Iterator[Row]:
    """One process against the ideal: users x the LLM's seconds / concurrency."""
    with rig("sqlite", LLM_SECONDS, RECAP_CONCURRENCY=str(concurrency)) as one:
        one.fill(users)
        run = one.job()
    assert run.stats["pushes"] == users, run.stats
    share = _ideal(users, concurrency) / run.wall
    figure = f"{share:.2f}: {run.wall:.1f} s, {run.cpu / users * 1000:.1f} ms of CPU a user, {run.memory_mb:.0f} MB"
    yield Row(
        f"{users:,} users at {concurrency}, one process: share of the ideal", figure, f">= {bar:.2f}", share >= bar
    )


def four_processes(users: int = 10_000, concurrency: int = 1_000, bar: float = 0.90) -> Iterator[Row]:
    """Four at once, a quarter of the calls each; where there are fewer cores than processes, with that limit."""
    each = str(concurrency // PROCESSES)
    with rig("sqlite", LLM_SECONDS, RECAP_SHARDS="16", RECAP_CONCURRENCY=each) as one:
        one.fill(users)
        one.stats()
        begun = time.time()
        ended = [one.end(*process) for process in _tasks(one, PROCESSES)]
        seconds = time.time() - begun
        assert one.stats()["pushes"] == users, ended
    share, cpu = _ideal(users, concurrency) / seconds, sum(run.cpu for run in ended)
    figure = f"{share:.2f}: {seconds:.1f} s"
    cores = os.cpu_count() or 1
    if cores < PROCESSES:
        figure += f"; the job alone needs {cpu:.0f} s of CPU, on {cores} cores with the servers"
    name = f"{users:,} users, {PROCESSES} processes at {concurrency:,} in all: share of the ideal"
    yield Row(name, figure, f">= {bar:.2f} with {PROCESSES} cores", share >= bar or cores < PROCESSES)


def _tasks(one: Rig, count: int) -> list[Started]:
    return [
        one.start(str(JOB), CLOUD_RUN_TASK_INDEX=str(number), CLOUD_RUN_TASK_COUNT=str(count))
        for number in range(count)
    ]


def _whole_cohort(one: Rig, users: int) -> Run:
    with one.emptied():
        one.fill(users)
        run = one.job()
    assert run.stats["calls"] == 2 * run.stats["users"], run.stats  # written, and looked at
    return run


def beside_the_plain_job(users: int = 200, repeats: int = 2) -> Iterator[Row]:
    """Users per second, whole processes, side by side; and what each reads when nothing is due.

    The plain job, which takes minutes, runs once.
    """
    with rig("firestore", LLM_SECONDS, RECAP_CONCURRENCY=str(users)) as one:
        ours = [_whole_cohort(one, users) for _ in range(repeats)]
        one.fill(users)
        served = [run.stats["users"] for run in (*ours, one.job())]
        assert served == [users] * len(served), served
        again = one.job()
        one.redis.ask("FLUSHALL")
        plain, plain_again = _plain(one), _plain(one)
        assert (plain.stats["users"], plain_again.stats["users"]) == (users, 0), (plain.code, plain.stats)
    ratios = [plain.wall / run.wall for run in ours]
    figure = f"{spread(ratios)}: {statistics.median(run.wall for run in ours):.1f} s and {plain.wall:.1f} s"
    name = f"{users} users: times the plain job's users per second (it makes one call)"
    yield Row(name, figure, ">= 15", statistics.median(ratios) >= 15)
    read, plain_read = again.event["documents_read"], plain_again.event["documents_read"]
    yield Row("documents read a minute when all is done, plain job", f"{read} ({plain_read})", "0", read == 0)


def _plain(one: Rig) -> Run:
    one.stats()
    today = datetime.now(UTC).date().isoformat()
    return one.end(*one.start("-m", "benchmarks.plain_job", PLAIN_DATE=today, PYTHONPATH=str(JOB.parent)))


def changing_tasks(users: int = 200, llm_seconds: float = 1.0) -> Iterator[Row]:
    """The count of tasks changes while runs overlap: one task, then four, then two, each started at once."""
    _in_parallel(users, (1, 4, 2), llm_seconds)
    yield Row(f"{users} users, tasks' count 1, 4 and 2 at once: double calls, lost users", "0, 0", "0, 0", True)


def _in_parallel(users: int, counts: tuple[int, ...], llm_seconds: float) -> None:
    """Raises AssertionError where anybody was called twice or lost."""
    with rig("sqlite", llm_seconds, RECAP_SHARDS="16", RECAP_CONCURRENCY="20") as one:
        one.fill(users)
        for process in [process for count in counts for process in _tasks(one, count)]:
            one.end(*process)
        while (stats := one.stats(reset=False))["users"] < users:  # shards that a run left are for the next
            assert one.end(*one.start(str(JOB))).event["sent"], stats
        assert (stats["calls"], stats["users"], stats["pushes"]) == (2 * users, users, users), stats


def first_call(repeats: int = 5) -> Iterator[Row]:
    """From the process's start to its first call to the LLM, beside the import of the vendors' clients, in turn."""
    ratios, ours, bare = [], [], []
    with rig("firestore", 0.0, 0.0) as one:
        for _ in range(repeats):
            with one.emptied():
                one.fill(1)
                bare.append(seconds_of(VENDORS))
                ours.append(one.job().first_call)
                ratios.append(ours[-1] / bare[-1])
    figure = f"{spread(ratios)}: {statistics.median(ours):.2f} and {statistics.median(bare):.2f} s"
    middle = statistics.median(ratios)
    yield Row("first call to the LLM: times the import of the vendors' clients", figure, "<= 1.5", middle <= 1.5)


def growth(small: int = 1_000, large: int = 50_000, with_content: int = 5, repeats: int = 2) -> Iterator[Row]:
    """Users per second and CPU per user, one in `with_content` with a recap; the start is measured and taken off.

    The small one runs before and after the large one, since the machine's speed changes within minutes.
    """
    rates: dict[int, list[float]] = {small: [], large: []}
    cpus: dict[int, list[float]] = {small: [], large: []}
    for users in [small] * repeats + [large] + [small] * repeats:
        with rig("sqlite", 0.0, 0.0, RECAP_CONCURRENCY="64") as one:
            one.fill(1, first=users)
            start = one.job()
            one.redis.ask("FLUSHALL")
            one.fill(users, with_content)
            run = one.job()
            assert (run.stats["pushes"], run.code) == (-(-users // with_content), 0), run.stats
            rates[users].append(users / (run.wall - start.wall))
            cpus[users].append((run.cpu - start.cpu) / users * 1000)
    name = f"{small:,} to {large:,} users, one in {with_content} with a recap"
    [rate], [cpu] = rates[large], cpus[large]
    small_rate, small_cpu = statistics.median(rates[small]), statistics.median(cpus[small])
    yield Row(
        f"{name}: users per second",
        f"{spread(rates[small])} to {rate:.2f}: {rate / small_rate:.2f}",
        "within 10 %",
        rate >= 0.9 * small_rate,
    )
    figure = f"{spread(cpus[small])} to {cpu:.2f} ms: {cpu / small_cpu:.2f}"
    yield Row(f"{name}: CPU per user", figure, "within 10 %", cpu <= 1.1 * small_cpu)


def beside_the_floor(
    kind: str, bar: float, *, store: str = "firestore", users: int = 200, repeats: int = 3
) -> Iterator[Row]:
    """CPU per user as a multiple of the same vendor calls alone, in turn; starts taken off.

    `kind`: what benchmarks/floor.py calls it.
    """
    talks = 0 if kind == "silent" else 2
    ratios, ours, floors = [], [], []
    with rig(store, 0.1, 0.01, RECAP_CONCURRENCY="50") as one:
        for _ in range(repeats):
            ours.append(_per_user(one, users, talks, None))
            floors.append(_per_user(one, users, talks, kind))
            ratios.append(ours[-1] / floors[-1])
    figure = f"{spread(ratios)}: {statistics.median(ours):.1f} and {statistics.median(floors):.1f} ms"
    where = "the emulator" if store == "firestore" else "SQLite"
    beside = "two bare LLM calls and one push" if kind == "calls" else "its vendor calls alone"
    name = f"CPU per {'silent' if not talks else 'sent'} user on {where}: times {beside}"
    yield Row(name, figure, f"<= {bar}", statistics.median(ratios) <= bar)


def _per_user(one: Rig, users: int, talks: int, floor: str | None) -> float:
    """Milliseconds of CPU, of the job or of the floor."""
    cpu = []
    for count in (1, users):
        with one.emptied():
            one.fill(count, talks=talks)
            one.stats()
            run = one.end(*one.start("-m", "benchmarks.floor", str(count), "50", floor)) if floor else one.job()
            assert run.code == 0, run
            assert run.stats["pushes"] == (count if talks else 0), run.stats
            cpu.append(run.cpu)
    return (cpu[1] - cpu[0]) / (users - 1) * 1000
