"""What 1,000 recaps of the evaluation days cost, by the bill of an LLM that bills: the job must say the same."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from benchmarks.rig import Rig, rig, uid_of
from benchmarks.table import Row
from evals.days import HERE

RECAPS = 500  # of each series; the figures are for 1,000
FLEX_SHARE = 0.52
ROUNDED_USD = 0.000001  # the job rounds each call up to a millionth
TIMES = ("created_at", "started_at", "finished_at")
SOON = {
    "RECAP_SHARD_RETRY_MIN_SECONDS": "0.2",
    "RECAP_SHARD_RETRY_MAX_SECONDS": "1",
    "RECAP_PROVIDER_RETRY_SECONDS": "0.2",
}
TICKS = 20
SMALL = {"RECAP_MAX_PROMPT_TOKENS": "8000"}  # a window so small that the long days are asked in parts


@dataclass(frozen=True)
class Cost:
    """Of all recaps of a series, in USD: by the bill, and as the job tells it."""

    bill: float
    told: float
    twice: float
    calls: int
    extracts: int  # in place of two useless answers in a row
    tokens: tuple[int, int, int]

    @property
    def same(self) -> bool:
        """Whether the job knows what it spent."""
        return abs(self.bill - self.told) <= ROUNDED_USD * self.calls


def money(recaps: int = RECAPS, *, short: bool = False) -> Iterator[Row]:
    """USD per 1,000: by tier, in parts, with failures; whether a part is paid twice. In short: no tiers."""
    scale = 1_000 / recaps
    plain = _series(recaps, "well")
    yield _row("default tier", plain, scale, 0.95)
    if not short:
        yield from _tiers(recaps, scale, plain)
    yield _row("one call in ten refused, one useless", _series(recaps, "retries"), scale)
    parts = _series(recaps, "no join", **SMALL)
    yield _row("in parts, the LLM away before they are joined", parts, scale)
    yield Row("cost of parts paid twice", f"{parts.twice:g} USD", "0", parts.twice == 0)


def _tiers(recaps: int, scale: float, plain: Cost) -> Iterator[Row]:
    yield _row("default tier, without the second look", _series(recaps, "well", RECAP_VERIFY="off"), scale)
    yield _row("default tier, answers as long as a strong model's", _series(recaps, "long"), scale, 0.95)
    flex = _series(recaps, "well", OPENAI_SERVICE_TIER="flex")
    yield _row("flex, one call in 50 refused", flex, scale, 0.48)
    share = flex.bill / plain.bill
    yield Row("flex against default", f"{share:.3f}", f"<= {FLEX_SHARE}", share <= FLEX_SHARE)
    yield _row("a window of 8,000 tokens, long days in parts", _series(recaps, "well", **SMALL), scale)


def _row(what: str, cost: Cost, scale: float, most_usd: float | None = None) -> Row:
    tokens_in, cached, tokens_out = (one * scale / 1_000 for one in cost.tokens)
    figure = (
        f"{cost.bill * scale:.3f} USD, {cost.calls * scale:,.0f} calls, a recap's tokens in {tokens_in:,.0f}, of these "
        f"cached {cached:,.0f}, out {tokens_out:,.0f}{f', extracts {cost.extracts * scale:,.0f}' * (cost.extracts > 0)}"
    )
    bar = f"the job says so: {cost.told * scale:.3f} USD"
    reached = cost.same
    if most_usd is not None:
        bar, reached = f"<= {most_usd:.2f} USD; {bar}", reached and cost.bill * scale <= most_usd
    return Row(f"1,000 recaps of the evaluation days, {what}", figure, bar, reached)


def _series(recaps: int, mode: str, **settings: str) -> Cost:
    with rig("sqlite", 0.05, 0.01, servers="billing", RECAP_CONCURRENCY="50", **SOON, **settings) as one:
        _fill(one, recaps)
        one.stats()
        _change(one, mode)
        runs = [one.end(*one.start("job.py"))]
        if mode == "no join":
            assert runs[0].event["waiting"], runs[0].event
            _change(one, "well")
        while len(runs) < TICKS and runs[-1].stats["pushes"] < recaps:
            runs.append(one.end(*one.start("job.py")))
        stats, told = one.stats(reset=False), sum(run.event["usd"] for run in runs)
        extracts = sum(run.event["extracts"] for run in runs)
        assert stats["pushes"] == recaps, (stats, runs[-1].event)
        assert extracts == 0 or mode == "retries", extracts
        tokens = (stats["in"], stats["cached"], stats["out"])
        return Cost(stats["bill"], told, stats["parts_twice"], stats["calls"], extracts, tokens)


def _change(one: Rig, mode: str) -> None:
    urllib.request.urlopen(f"http://127.0.0.1:{one.port}/mode", data=mode.encode()).close()


def _fill(one: Rig, users: int) -> None:
    """Users of one cohort, each with the conversations of one evaluation day, moved to today."""
    days = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HERE / "days").glob("*.json"))]
    slot = one.fill(users, talks=0)
    for n in range(users):
        day = days[n % len(days)]
        said = day["conversations"].values()
        last = max(datetime.fromisoformat(talk["created_at"]) for talk in said)
        later = slot.at - timedelta(minutes=10) - last
        talks = {f"t{k}": _moved(talk, later, uid_of(n)) for k, talk in enumerate(said)}
        user = one.world.user(uid_of(n))
        assert user is not None
        one.world.put_user(uid_of(n), user | {"language": day["language"]}, {"d0": f"token-{uid_of(n)}-0"}, talks)


def _moved(talk: dict[str, Any], later: timedelta, whose: str) -> dict[str, Any]:
    """At another time, and in one word another person's: so that nobody's words were read before."""
    structured = talk["structured"] | {"title": f"{whose} {talk['structured']['title']}"}
    times = {name: datetime.fromisoformat(talk[name]) + later for name in TIMES if name in talk}
    return talk | times | {"structured": structured}
