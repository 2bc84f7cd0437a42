"""How fast: against the ideal, beside the plain job, in parallel, and as the users grow."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from benchmarks.rig import Rig, Run, rig
from benchmarks.table import Row, spread
from tests.support.jobs import JOB

LLM_SECONDS = 5.0
CALLS = 2  # of a user: the recap, and the second look at it
PARALLEL = {2: 1.9, 4: 3.2}  # times one process, where the LLM is the limit
FIRST_PUSH_SECONDS = 1.5  # beside the LLM's latency


def throughput(users: int, concurrency: int, bar: float, repeats: int) -> Iterator[Row]:
    """Against the ideal: users x calls x latency / concurrency."""
    ideal = users * CALLS * LLM_SECONDS / concurrency
    runs = []
    for _ in range(repeats):
        with rig("sqlite", LLM_SECONDS, RECAP_CONCURRENCY=str(concurrency)) as one:
            one.fill(users)
            runs.append(one.job())
    name = f"{users:,} users at {concurrency}, LLM 5 s, SQLite"
    served = min(run.stats["pushes"] for run in runs)
    yield Row(f"{name}: served by one run", f"{served:,}", f"{users:,}", served == users)
    if served < users:
        return  # a share of what was not done says nothing
    share = [ideal / run.wall for run in runs]
    yield Row(f"{name}: share of the ideal", spread(share), f">= {bar:.2f}", statistics.median(share) >= bar)
    cpu = [run.cpu / users * 1000 for run in runs]
    yield Row(f"{name}: the job's CPU per user", spread(cpu, " ms"), "<= 5 ms", statistics.median(cpu) <= 5)
    memory = [run.memory_mb for run in runs]
    yield Row(f"{name}: peak memory", spread(memory, " MB"), "<= 200 MB", max(memory) <= 200)
    first = [run.first_push for run in runs]
    bound = CALLS * LLM_SECONDS + FIRST_PUSH_SECONDS
    yield Row(f"{name}: first push after", spread(first, " s"), f"<= {bound:g} s", statistics.median(first) <= bound)


def _whole_cohort(one: Rig, users: int) -> Run:
    with one.another_project():
        one.fill(users)
        run = one.job()
    assert run.stats["calls"] == 2 * run.stats["users"], run.stats  # written, and looked at
    return run


def beside_the_plain_job(repeats: int, users: int = 200) -> Iterator[Row]:
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
    yield Row(
        f"{users} users: times the plain job's users per second", figure, ">= 18", statistics.median(ratios) >= 18
    )
    read, plain_read = again.event["documents_read"], plain_again.event["documents_read"]
    yield Row("documents read a minute when all is done, plain job", f"{read} ({plain_read})", "0", read == 0)


def _plain(one: Rig) -> Run:
    one.stats()
    today = datetime.now(UTC).date().isoformat()
    return one.end(*one.start("-m", "benchmarks.plain_job", PLAIN_DATE=today, PYTHONPATH=str(JOB.parent)))


def parallel(users: int = 300, tasks: tuple[int, ...] = (1, 2, 4), repeats: int = 3) -> Iterator[Row]:
    """Parallel tasks where the LLM's latency is the limit, 16 shards."""
    ratios: dict[int, list[float]] = {count: [] for count in tasks[1:]}
    for _ in range(repeats):
        walls = {count: _in_parallel(users, (count,)) for count in tasks}
        for count, found in ratios.items():
            found.append(walls[tasks[0]] / walls[count])
    for count, found in ratios.items():
        middle = statistics.median(found)
        bar = PARALLEL[count]
        yield Row(f"{count} processes, 16 shards: times one", spread(found), f">= {bar}", middle >= bar)


def changing_tasks(users: int = 200, llm_seconds: float = 1.0) -> Iterator[Row]:
    """The count of tasks changes while runs overlap: one task, then four, then two, each started at once."""
    _in_parallel(users, (1, 4, 2), llm_seconds)
    yield Row(f"{users} users, tasks' count 1, 4 and 2 at once: double calls, lost users", "0, 0", "0, 0", True)


def _in_parallel(users: int, counts: tuple[int, ...], llm_seconds: float = LLM_SECONDS) -> float:
    """Seconds until every task ended. Raises AssertionError where anybody was called twice or lost."""
    with rig("sqlite", llm_seconds, RECAP_SHARDS="16", RECAP_CONCURRENCY="20") as one:
        one.fill(users)
        begun = time.time()
        started = [
            one.start(str(JOB), CLOUD_RUN_TASK_INDEX=str(n), CLOUD_RUN_TASK_COUNT=str(count))
            for count in counts
            for n in range(count)
        ]
        for process in started:
            one.end(*process)
        seconds = time.time() - begun
        while (stats := one.stats(reset=False))["users"] < users:  # shards that a run left are for the next
            assert one.end(*one.start(str(JOB))).event["sent"], stats
        assert (stats["calls"], stats["users"], stats["pushes"]) == (2 * users, users, users), stats
        return seconds


def growth(sizes: tuple[int, int], store: str, llm_seconds: float = 0.0, concurrency: int = 64) -> Iterator[Row]:
    """Users per second and CPU per user, small and large; what a start costs is measured and taken off."""
    figures: list[tuple[float, float]] = []
    for users in sizes:
        with rig(store, llm_seconds, 0.0, RECAP_CONCURRENCY=str(concurrency)) as one:
            one.fill(1, first=users)
            start = one.job()
            one.redis.ask("FLUSHALL")
            one.fill(users)
            run = one.job()
            assert run.stats["pushes"] == users, run.stats
            figures.append((users / (run.wall - start.wall), (run.cpu - start.cpu) / users * 1000))
    (rate, cpu), (large_rate, large_cpu) = figures
    name = f"{sizes[0]:,} to {sizes[1]:,} users at {concurrency}, LLM {llm_seconds:g} s, {store}"
    yield Row(f"{name}: users per second", f"{rate:.1f} to {large_rate:.1f}", "within 10 %", large_rate >= 0.9 * rate)
    yield Row(f"{name}: CPU per user", f"{cpu:.2f} to {large_cpu:.2f} ms", "within 10 %", large_cpu <= 1.1 * cpu)


def beside_the_floor(users: int = 200, repeats: int = 3) -> Iterator[Row]:
    """CPU per sent and per silent user as a multiple of the same vendor calls alone, in turn; starts taken off."""
    for kind, talks in (("sent", 2), ("silent", 0)):
        ratios, ours, floors = [], [], []
        with rig("firestore", 0.1, 0.01, RECAP_CONCURRENCY="50") as one:
            for _ in range(repeats):
                ours.append(_per_user(one, users, talks, None))
                floors.append(_per_user(one, users, talks, kind))
                ratios.append(ours[-1] / floors[-1])
        figure = f"{spread(ratios)}: {statistics.median(ours):.1f} and {statistics.median(floors):.1f} ms"
        name = f"CPU per {kind} user on the emulator: times the floor"
        yield Row(name, figure, "<= 1.5", statistics.median(ratios) <= 1.5)


def _per_user(one: Rig, users: int, talks: int, floor: str | None) -> float:
    """Milliseconds of CPU, of the job or of the floor."""
    cpu = []
    for count in (1, users):
        with one.another_project():
            one.fill(count, talks=talks)
            one.stats()
            run = one.end(*one.start("-m", "benchmarks.floor", str(count), "50", floor)) if floor else one.job()
            assert run.code == 0, run
            assert run.stats["pushes"] == (count if talks else 0), run.stats
            cpu.append(run.cpu)
    return (cpu[1] - cpu[0]) / (users - 1) * 1000


def silent(users: int = 5_000) -> Iterator[Row]:
    """CPU of a user who said nothing, on SQLite; the start taken off."""
    cpu = []
    for count in (1, users):
        with rig("sqlite", 0.0, RECAP_CONCURRENCY="200") as one:
            one.fill(count, talks=0)
            run = one.job()
            assert run.event["skipped"] == count, run.event
            cpu.append(run.cpu)
    figure = (cpu[1] - cpu[0]) / (users - 1) * 1000
    yield Row(f"{users:,} silent users on SQLite: CPU per user", f"{figure:.2f} ms", "<= 5 ms", figure <= 5)
