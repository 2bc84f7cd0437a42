"""One recap by the LLM, from the day's material to the draft: planned, asked in parts where it is long, checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial

from notifications.domain.errors import ItemFault, ItemReason, StoreDown
from notifications.domain.model import Cited, Draft
from notifications.domain.recap.answer import read_answer, read_facts
from notifications.domain.recap.bounds import MAX_SENTENCE
from notifications.domain.recap.checks import Checks
from notifications.domain.recap.extract import digest
from notifications.domain.recap.material import Material
from notifications.domain.recap.plan import BYTES_A_TOKEN, EXTRACT, NOTHING_COVERED, Note, halves, plan
from notifications.domain.recap.prompt import Question, join_question, part_hash, part_question, recap_question
from notifications.domain.text import bounded
from notifications.run.asking import Asking
from notifications.run.state import Run
from notifications.run.threads import beside_the_loop

MAX_HALVINGS = 3  # of what a server finds too long: a guess of ours is no user's fault
MAX_USELESS_PARTS = 1  # that enter as their extract; more are no accident


@dataclass(slots=True)
class Writing:
    """One day's recap in the making. `keeps`: whether what parts give is stored, so that nobody pays it twice."""

    run: Run
    uid: str
    day: date
    m: Material
    asking: Asking
    keeps: bool = True
    coverage: Counter[str] = field(default_factory=lambda: Counter(NOTHING_COVERED))
    useless_parts: int = 0
    checked: list[Checks] = field(default_factory=list)  # of each answer, in order

    async def draft(self) -> Draft:
        """The draft. Raises ItemFault, ProviderFault, OverBudget."""
        limits = self.run.limits
        shortened = partial(digest, split=self.run.split, language=self.m.language)
        bounds = limits.max_prompt_tokens, limits.max_parts
        planned = await beside_the_loop(self.m.size, plan, self.m, *bounds, shortened)
        parts, halvings = planned.parts, 0
        if len(parts) == 1:
            try:
                self.coverage.update(note.how for note in parts[0])
                return await self._recap_of(recap_question(self.m, parts[0]), [note.number for note in parts[0]])
            except ItemFault as fault:
                if fault.reason is not ItemReason.CONTEXT_LENGTH:
                    raise
                parts, halvings = halves(parts[0]), 1
            self.coverage.clear()
        facts: list[Cited] = []
        for part in filter(None, parts):
            facts += await self._facts_of(part, halvings)
        return await self._joined(facts)

    async def _recap_of(self, question: Question, numbers: Sequence[int]) -> Draft:
        def read(text: str) -> Draft:
            return read_answer(text, self._checks(question, numbers))

        draft = await self.asking.read(question, read, self.m.size)
        metadata: dict[str, str | int | float] = {"model": self.asking.model, "tier": self.asking.tier, "source": "llm"}
        return replace(
            draft,
            coverage={**NOTHING_COVERED, **self.coverage},
            metadata={**metadata, **self.asking.spent.as_metadata()},
        )

    async def _facts_of(self, part: Sequence[Note], halvings: int) -> list[Cited]:
        """What is in a part of the day; what was once paid for is not paid again."""
        question = part_question(self.m, part)
        key = part_hash(question)
        stored = await self.run.reads.watch(self.run.store.part(self.uid, self.day, key)) if self.keeps else None
        if stored is None:
            try:
                facts = await self.asking.read(question, partial(self._read_facts, question, part), self.m.size)
            except ItemFault as fault:
                return await self._instead(part, halvings, fault)
            if self.keeps:
                with suppress(StoreDown):  # then it may be paid again; this recap goes on
                    await self.run.reads.watch(self.run.store.put_part(self.uid, self.day, key, facts))
        else:
            facts = stored
        self.coverage.update(note.how for note in part)
        return list(facts)

    def _read_facts(self, question: Question, part: Sequence[Note], text: str) -> tuple[Cited, ...]:
        return read_facts(text, self._checks(question, [note.number for note in part]))

    def _checks(self, question: Question, numbers: Sequence[int]) -> Checks:
        self.checked.append(Checks(self.m, numbers, question.instructions, question.marker))
        return self.checked[-1]

    async def _instead(self, part: Sequence[Note], halvings: int, fault: ItemFault) -> list[Cited]:
        """Half of what was too long; of what the LLM can't do, its conversations' own words."""
        if fault.reason is ItemReason.CONTEXT_LENGTH:
            if halvings >= MAX_HALVINGS:
                raise fault
            return [one for half in filter(None, halves(part)) for one in await self._facts_of(half, halvings + 1)]
        if self.useless_parts >= MAX_USELESS_PARTS:
            raise fault
        self.useless_parts += 1
        self.coverage[EXTRACT] += len(part)
        talks = [self.m.conversations[note.number - 1] for note in part]
        told = [(digest(c, self.run.split, self.m.language), c.id) for c in talks]
        return [Cited(bounded(words, MAX_SENTENCE), (key,)) for words, key in told if words]

    async def _joined(self, facts: Sequence[Cited]) -> Draft:
        numbers = {c.id: n for n, c in enumerate(self.m.conversations, start=1)}
        room = int(self.run.limits.max_prompt_tokens * BYTES_A_TOKEN)
        fitting = _fitting([one for one in facts if set(one.conversation_ids) <= numbers.keys()], room)
        if not fitting:
            raise ItemFault(ItemReason.INVALID_ANSWER, "The LLM found nothing in any part of this day.")
        question = join_question(self.m, fitting, numbers)
        return await self._recap_of(question, sorted({numbers[key] for one in fitting for key in one.conversation_ids}))


def _fitting(facts: Sequence[Cited], room: int) -> list[Cited]:
    """Facts from all over the day, as many as one call holds."""
    size = sum(len(one.text.encode()) + 8 * len(one.conversation_ids) + 16 for one in facts)
    if size <= room:
        return list(facts)
    kept = max(1, len(facts) * room // size)
    return [facts[n * len(facts) // kept] for n in range(kept)]
