"""Every case by its name; and the short form, counts and ratios of counts alone, that the tests run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks import cost, money, speed
from benchmarks.table import Row

Case = Callable[[], Iterator[Row]]

CASES: dict[str, Case] = {
    "sent": lambda: speed.beside_the_floor("sent", 1.3),
    "calls": lambda: speed.beside_the_floor("calls", 2.0, store="sqlite", users=600, repeats=5),
    "silent": lambda: speed.beside_the_floor("silent", 1.0),
    "200": lambda: speed.throughput(2_000, 200, 0.95),
    "500": lambda: speed.throughput(5_000, 500, 0.90),
    "1000": speed.four_processes,
    "plain": speed.beside_the_plain_job,
    "idle": cost.idle,
    "idle-counts": cost.idle_counts,
    "first-call": speed.first_call,
    "growth": speed.growth,
    "memory": cost.memory,
    "money": money.money,
    "operators": cost.operators,
    "redis": cost.redis_cost,
    "documents": lambda: cost.documents(10),
    "changing": speed.changing_tasks,
}


SHORT: dict[str, Case] = {
    "redis": lambda: cost.redis_cost(100),
    "changing": lambda: speed.changing_tasks(40, llm_seconds=0.2),
    "memory": lambda: cost.memory(200, 2_000, recaps=100),
    "money": lambda: money.money(60, short=True),
}
SHORT_ON_EMULATOR: dict[str, Case] = {
    "idle-counts": cost.idle_counts,
    "documents": lambda: cost.documents(10, names=("sent, after a week", "skipped, after a week")),
}
