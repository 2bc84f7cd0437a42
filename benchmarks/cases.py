"""Every case by its name; and the short form, counts and ratios of counts alone, that the tests run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks import cost, money, speed
from benchmarks.table import Row

Case = Callable[[], Iterator[Row]]
REPEATS = 3


def cases(repeats: int = REPEATS) -> dict[str, Case]:
    """All of them; those that depend on the machine's mood are repeated."""
    return {
        "idle": cost.idle,
        "idle-counts": cost.idle_counts,
        "redis": cost.redis_cost,
        "documents": cost.documents,
        "plain": lambda: speed.beside_the_plain_job(repeats),
        "floor": lambda: speed.beside_the_floor(repeats=repeats),
        "silent": speed.silent,
        "200": lambda: speed.throughput(2_000, 200, 0.95, 1),
        "500": lambda: speed.throughput(5_000, 500, 0.93, 1),
        "1000": lambda: speed.throughput(10_000, 1_000, 0.88, 1),
        "parallel": lambda: speed.parallel(repeats=1),
        "changing": speed.changing_tasks,
        "money": money.money,
        "growth-sqlite": lambda: speed.growth((1_000, 50_000), "sqlite"),
        "audit": cost.audit,
        "memory": cost.memory,
    }


SHORT: dict[str, Case] = {
    "redis": lambda: cost.redis_cost(100),
    "changing": lambda: speed.changing_tasks(40, llm_seconds=0.2),
    "memory": lambda: cost.memory(200, 2_000),
    "money": lambda: money.money(60, short=True),
}
SHORT_ON_EMULATOR: dict[str, Case] = {
    "idle-counts": cost.idle_counts,
    "documents": lambda: cost.documents(10, names=("sent, after a week", "skipped, after a week")),
}
