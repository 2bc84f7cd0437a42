"""make eval: how good the recaps are, by summarizer. Exits 1 where a bar does not hold.

Other summarizers: python -m evals --base-url http://127.0.0.1:8000/v1 --model NAME
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
from notifications.domain.language.scripts import is_written_in, script_of
from notifications.domain.language.words import is_in_another_language
from notifications.recap.checks import Checks

from evals.days import PLACES, Day, load_days, text_of
from evals.inventions import Sentence, seeded
from evals.summarizers import Made, Maker, bundled, server, small_model
from notifications.domain.model import Recap
from notifications.domain.text import plain
from notifications.settings import Settings

LEAST_RECALL, LEAST_RECALL_BY_PLACE = 0.60, 0.50  # of the extract
MOST_TRUE_DROPPED = 0.02
MARKER, INSTRUCTIONS = "q7k3x", "none"


def stands(one: Sentence) -> bool:
    """Whether the checks keep a sentence."""
    checks = Checks(one.material, [one.number], INSTRUCTIONS, MARKER)
    return bool(checks.stands(one.text, [one.number]))


def unfounded_in(recap: Recap, day: Day) -> list[str]:
    """Sentences of a stored recap that do not stand up to what they cite: it has to be empty."""
    numbers = {c.id: n for n, c in enumerate(day.material.conversations, start=1)}
    checks = Checks(day.material, [*numbers.values()], INSTRUCTIONS, MARKER)
    draft = recap.draft
    lists = (*draft.unresolved_questions, *draft.decisions_made, *draft.knowledge_nuggets)
    told = [(one.text, one.conversation_ids) for one in lists]
    told += [(one.summary, one.conversation_ids) for one in draft.highlights]
    texts = [text for text, keys in told if not checks.stands(text, [numbers[key] for key in keys])]
    return [*texts, *(text for text, _ in told if plain(text) != text)]


def right_language(recap: Recap, day: Day) -> bool:
    """Whether the overview is in the day's language, as far as small words and letters tell."""
    script = script_of(day.language, [])
    told = recap.draft.overview
    return (script is None or is_written_in(told, script)) and not is_in_another_language(told, day.language)


def share(part: float, whole: float) -> str:
    return f"{part / whole:6.1%}" if whole else "     -"


def report(maker: Maker, days: Sequence[Day], made: Sequence[Made]) -> bool:
    """Print one summarizer's rows; False where a bar does not hold."""
    told, facts = Counter[str](), Counter[str]()
    kinds = {day.kind for day in days}
    for day, made_of_it in zip(days, made, strict=True):
        text = text_of(made_of_it.recap)
        for fact in day.facts:
            for row in ("all", fact.place, day.kind):
                facts[row] += 1
                told[row] += fact.is_told(text)
    pairs = [*zip(days, (one.recap for one in made), strict=True)]
    lies = [(day.name, lie) for day, recap in pairs for lie in day.lies if lie.casefold() in text_of(recap)]
    bad = [(day.name, text) for day, recap in pairs for text in unfounded_in(recap, day)]
    by_llm = [one for one in made if not one.recap.extracted]
    spent = [one.recap.draft.metadata for one in made]
    usd = [meta["usd"] for meta in spent if "usd" in meta]
    kept = sum(one.recap.draft.checks.get("kept", 0) for one in by_llm)
    dropped = Counter[str]()
    for one in by_llm:
        dropped.update({name: n for name, n in one.recap.draft.checks.items() if name != "kept"})
    print(f"\n{maker.name}: {len(made)} days, {len(by_llm)} by the LLM, {len(made) - len(by_llm)} extracts")
    print("  recall of planted facts:", share(told["all"], facts["all"]).strip(), "| by place:", end=" ")
    print(", ".join(f"{place} {share(told[place], facts[place]).strip()}" for place in PLACES))
    print("  by kind:", ", ".join(f"{kind} {share(told[kind], facts[kind]).strip()}" for kind in sorted(kinds)))
    print(f"  stored though unfounded: {len(bad)}   lies told: {len(lies)}", *lies[:5])
    length = sum(len(recap.draft.overview) for _, recap in pairs) / len(made)
    right = share(sum(right_language(recap, day) for day, recap in pairs), len(made)).strip()
    print(f"  right language: {right}   overview: {length:.0f} characters on average")
    tokens = [int(meta.get("tokens_in", 0)) + int(meta.get("tokens_out", 0)) for meta in spent]
    print(f"  tokens: {sum(tokens)}, calls: {sum(int(meta.get('calls', 0)) for meta in spent)}", end=", ")
    print(f"USD: {sum(map(float, usd)):.4f}" if usd else "USD: price not known", end=", ")
    print(f"seconds: {sum(one.seconds for one in made):.0f}")
    if by_llm:
        print(f"  sentences kept: {kept}, dropped: {dict(dropped)}")
    if faults := Counter(one.fault for one in made if one.fault):
        print(f"  the extract in place of the LLM: {dict(faults)}")
    if bad:
        print("  UNFOUNDED:", *bad[:10], sep="\n    ")
    holds = not bad and len(made) == len(days)
    if maker.llm is None:
        holds &= not lies and told["all"] >= LEAST_RECALL * facts["all"]
        holds &= all(told[place] >= LEAST_RECALL_BY_PLACE * facts[place] for place in PLACES)
    return holds


def check_inventions(days: Sequence[Day]) -> bool:
    """Print what became of the seeded inventions and of the true sentences; False where a bar does not hold."""
    invented, true = seeded(list(days))
    stored = Counter(one.changed for one in invented if stands(one))
    dropped = [one for one in true if not stands(one)]
    kinds = Counter(one.changed for one in invented)
    print(f"inventions stored: {stored.total()} of {len(invented)} ({dict(kinds)})", dict(stored) or "")
    print(f"true sentences dropped: {len(dropped)} of {len(true)}")
    return not stored and len(dropped) <= MOST_TRUE_DROPPED * len(true)


async def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m evals")
    parser.add_argument("--base-url", help="of an OpenAI-compatible server")
    parser.add_argument("--model", default=Settings.openai_model)
    parser.add_argument("--days", type=int, help="only so many days of each summarizer but the extract")
    parser.add_argument("--threads", type=int, default=0, help="of the bundled model; unset: as many as cores")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    days = load_days()
    holds = [check_inventions(days)]
    async with AsyncExitStack() as stack:
        makers = [Maker("The extract")]
        if asked.base_url:
            key = os.environ.get("OPENAI_API_KEY")
            makers.append(await stack.enter_async_context(server(asked.model, asked.base_url, asked.model, key)))
        elif weights := small_model():
            makers.append(await stack.enter_async_context(bundled(weights, asked.threads)))
        for maker in makers:
            some = days if maker.llm is None else days[: asked.days]
            made = []
            for day in some:
                made.append(await maker.make(day))
                if maker.llm is not None:
                    state = made[-1].fault or "by the LLM"
                    print(f"  {day.name}: {state}, {made[-1].seconds:.0f} s", file=sys.stderr, flush=True)
            holds.append(report(maker, some, made))
    print("\nevery bar holds" if all(holds) else "\nA BAR DOES NOT HOLD")
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
