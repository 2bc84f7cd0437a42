"""Why a day waits, failed, or is an extract: the stored codes in a few words, by reasons.toml."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from notifications.run.outcome import LEFT_OPEN, WAITS_FOR

TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
REASONS_SHOWN = 3
DOCTOR = "python job.py doctor looks for the cause"


def in_words(reason: str) -> str:
    """A reason as it is stored, in a few words: `provider_llm_429` is "llm 429"."""
    name = _cause(reason)
    short = name.removeprefix("llm_")
    if words := TABLES["words"].get(name) or TABLES["answers"].get(short):
        return str(words)
    for table, noun in (("pushes", "push"), ("mails", "mail")):
        if meaning := TABLES[table].get(name.upper()):
            return f"{noun} {name.upper()}, {meaning}"
    if name.startswith("store_"):
        return "store was down"  # of a try that is over: it may answer since
    if name.startswith("defect_"):
        return "a defect of this job"
    if _is_of_a_connection(name):
        return "delivery service does not answer"
    if name[:3].isdigit():  # with an enhanced status code it is a mail relay's
        return f"{'mail' if '_' in name else 'delivery'} {name}"
    return f"llm {short}" if name != short else name


def _cause(reason: str) -> str:
    """The code without what says where it was stored."""
    return reason.removeprefix(f"{WAITS_FOR}_").removeprefix(f"{LEFT_OPEN}_").removeprefix("provider_")


def _is_of_a_connection(name: str) -> bool:
    """Whether the code is an error's of a client, which could not reach a delivery service."""
    return name.lower().endswith("error") and not name.startswith("llm_")


def cure_of(reasons: Iterable[str]) -> str:
    """What a person has to do about those causes that nothing else ends; empty if there are none."""
    causes = map(_cause, reasons)
    names = ("unreachable" if _is_of_a_connection(name) else name for name in causes)
    cures = (TABLES["cures"].get(name) or TABLES["cures"].get(name.upper()) for name in names)
    return "; ".join(dict.fromkeys(filter(None, cures)))


def is_of_an_answer(reason: str) -> bool:
    """Whether the LLM answered, and its answer was of no use: the next try may end as an extract."""
    return _cause(reason).removeprefix("llm_") in TABLES["answers"]


def bracketed(reasons: Mapping[str, int], more: str = "") -> str:
    """The most frequent reasons in words, and what follows them, in brackets; empty if there are none."""
    words: Counter[str] = Counter()
    for reason, count in reasons.items():
        if reason:
            words[in_words(reason)] += count
    shown = [word for word, _ in words.most_common(REASONS_SHOWN)]
    shown += ["other reasons"] if len(words) > REASONS_SHOWN else []
    inner = "; ".join(filter(None, (", ".join(shown), more)))
    return f" ({inner})" if inner else ""
