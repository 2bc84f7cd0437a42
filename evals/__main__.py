"""make eval: how good the recaps are. Exits 1 where a bar does not hold.

Offline: the extract, the evidence, garbage and innocent sentences; a bundled small model where it is installed.
With OPENAI_BASE_URL, or --base-url: that server's model too, as the writer and as the judge.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack

import structlog

from evals.days import PLACES, Day, load_days, plainly, text_of
from evals.evidence import judge, print_evidence, print_garbage, print_innocents, print_judgement
from evals.llms import Made, Maker, bundled, server, small_model
from notifications.domain.plain import plain
from notifications.recap.words import is_written_in, script_of
from notifications.settings import Settings

LEAST_RECALL = 0.75  # of the extract, on the written days and on the spoken ones
UNSEEN = "days that the weights were not found on"  # printed, and no bar: it would be tuned to like the others
SETS = {"days": "written days", "spoken": "spoken days", "unseen": UNSEEN}
LEAST_PUSHES = 0.80  # of the extract's that tell a key fact


def right_script(text: str, day: Day) -> bool:
    """Whether a text is in the day's script."""
    script = script_of(day.language, [])
    return script is None or is_written_in(text, script)


def unsafe_in(made: Made) -> list[str]:
    """What must not be stored: markup, links and hidden characters; texts that no bound holds."""
    draft = made.recap.draft
    items = [item for one in draft.highlights for item in one.items]
    items += [*draft.overview, *draft.unresolved_questions, *draft.decisions_made, *draft.knowledge_nuggets]
    texts = [draft.headline, draft.push, *(one.topic for one in draft.highlights)]
    texts += [text for one in items for text in (one.text, one.quote)]
    return [text for text in texts if plain(text) != text]


def share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def report(maker: Maker, name: str, days: Sequence[Day], made: Sequence[Made]) -> bool:
    """Print one summarizer's rows for one set of days; False where a bar does not hold."""
    told, facts, pushes = Counter[str](), Counter[str](), 0
    for day, one in zip(days, made, strict=True):
        text, push = text_of(one.recap), plainly(one.recap.draft.push)
        pushes += any(fact.is_told(push) for fact in day.facts)
        for fact in day.facts:
            for row in ("all", fact.place, day.kind):
                facts[row] += 1
                told[row] += fact.is_told(text)
    bad = [(day.name, text) for day, one in zip(days, made, strict=True) for text in unsafe_in(one)]
    by_llm = [one.recap.draft for one in made if not one.recap.is_extract]
    print(f"\n{maker.name}, {len(made)} {name}: {len(by_llm)} by the LLM, {len(made) - len(by_llm)} extracts")
    places = ", ".join(f"{place} {share(told[place], facts[place])}" for place in PLACES)
    print(f"  recall of key facts: {share(told['all'], facts['all'])} | by place: {places}")
    kinds = sorted({day.kind for day in days})
    print("  by kind:", ", ".join(f"{kind} {share(told[kind], facts[kind])}" for kind in kinds))
    right = sum(right_script(one.recap.draft.text, day) for day, one in zip(days, made, strict=True))
    print(f"  pushes that tell a key fact: {share(pushes, len(made))} | right script: {right} | unsafe: {len(bad)}")
    print(*(f"  UNSAFE: {name}: {text}" for name, text in bad[:10]), sep="\n", end="\n" if bad else "")
    if maker.llm is not None:
        _report_llm(made)
    holds = not bad and len(made) == len(days)
    if maker.llm is None and name != UNSEEN:
        holds &= told["all"] >= LEAST_RECALL * facts["all"] and pushes >= LEAST_PUSHES * len(made)
    return holds


def _report_llm(made: Sequence[Made]) -> None:
    spent = [one.recap.draft.metadata for one in made]
    checks = Counter[str]()
    for one in made:
        checks.update({key: int(count) for key, count in one.recap.draft.checks.items()})
    usd = [float(meta["usd"]) for meta in spent if "usd" in meta]
    tokens = sum(int(meta.get("tokens_in", 0)) + int(meta.get("tokens_out", 0)) for meta in spent)
    by_llm = [one for one in made if not one.recap.is_extract]
    unverified = sum(not one.recap.draft.checks.get("verified") for one in by_llm)
    quotes = [(one, quote) for one in made for quote in one.quotes]
    exact = sum(one.to_the_letter(quote) for one, quote in quotes)
    print(f"  sentences: {dict(checks)} | quotes to the letter: {exact} of {len(quotes)} | unverified: {unverified}")
    priced = f"{sum(usd):.4f}" if len(usd) == len(spent) else "not known"
    calls = sum(int(meta.get("calls", 0)) for meta in spent)
    print(f"  calls: {calls}, tokens: {tokens}, USD: {priced}, seconds: {sum(one.seconds for one in made):.0f}")
    if faults := Counter(one.fault for one in made if one.fault):
        print(f"  the extract in place of the LLM: {dict(faults)}")


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m evals")
    parser.add_argument("--base-url", default=os.environ.get("OPENAI_BASE_URL"), help="of an OpenAI-compatible server")
    parser.add_argument("--model", default=os.environ.get("OPENAI_MODEL", Settings.openai_model))
    parser.add_argument("--days", type=int, help="only so many days of each summarizer but the extract")
    parser.add_argument("--threads", type=int, default=0, help="of a bundled model; unset: as many as cores")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    fluent = load_days("fluent")
    holds = [print_evidence(fluent), print_innocents(), print_garbage()]
    sets = {name: load_days(folder) for folder, name in SETS.items()}
    async with AsyncExitStack() as stack:
        makers = [Maker("The extract")]
        if asked.base_url:
            key = os.environ.get("OPENAI_API_KEY")
            makers.append(await stack.enter_async_context(server(asked.model, asked.base_url, asked.model, key)))
        else:
            weights = small_model()
            for free in (False, True) if weights else ():
                assert weights is not None
                makers.append(await stack.enter_async_context(bundled(weights, asked.threads, free=free)))
        for maker in makers:
            for name, days in sets.items():
                some = days if maker.llm is None else days[: asked.days]
                holds.append(report(maker, name, some, [await _made(maker, day) for day in some]))
            if maker.llm is not None and asked.base_url:
                print(f"\n{maker.name} as the judge of {len(fluent)} days' fluent sentences")
                holds.append(print_judgement(await judge(maker.llm, fluent)))
    print("\nevery bar holds" if all(holds) else "\nA BAR DOES NOT HOLD")
    return 0 if all(holds) else 1


async def _made(maker: Maker, day: Day) -> Made:
    made = await maker.make(day)
    if maker.llm is not None:
        state = made.fault or "by the LLM"
        print(f"  {day.name}: {state}, {made.seconds:.0f} s", file=sys.stderr, flush=True)
    return made


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
