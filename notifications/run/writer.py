"""One recap by the LLM, from the day's material to the draft: planned, written, checked, looked at a second time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial

import structlog

from notifications.domain.errors import (
    ConfigFault,
    ItemFault,
    ItemReason,
    OverBudget,
    ProviderFault,
    RecapError,
    StoreDown,
)
from notifications.domain.model import Cited, Draft
from notifications.domain.money import Spent
from notifications.domain.question import Question
from notifications.domain.text import bounded
from notifications.recap import verify
from notifications.recap.answer import read_answer, read_facts, unfounded
from notifications.recap.bounds import MAX_QUOTE, MAX_SENTENCE
from notifications.recap.evidence import Evidence
from notifications.recap.extract import make_digest
from notifications.recap.material import Material
from notifications.recap.plan import BYTES_A_TOKEN, DIGEST, NOTHING_COVERED, Note, halves, plan
from notifications.recap.prompt import ask_again, join_question, part_question, question_hash, recap_question
from notifications.recap.stand_ins import fill_in
from notifications.recap.verify import Verdict
from notifications.run.llm_session import LLMSession, Reservation, run_in_thread_if_large
from notifications.run.state import Run

log = structlog.get_logger()

MAX_HALVINGS = 3  # of what a server finds too long: a wrong guess of ours is no user's fault
MAX_BAD_PARTS = 1  # that enter as their extract; more are no accident
LISTED_BYTES = 20_000  # of the sentences that a second look is asked about

Verdicts = Mapping[tuple[str, str], Verdict]


@dataclass(slots=True)
class RecapWriter:
    """One day's recap in the making.

    `keeps`: whether what is paid is stored, so that it is not paid twice. `resumes`: whether an earlier run may have
    stored a draft for want of a second look. `may_wait`: whether another run can give the second look later.
    """

    run: Run
    m: Material
    asking: LLMSession
    uid: str
    day: date
    keeps: bool = True
    resumes: bool = False
    may_wait: bool = False
    coverage: Counter[str] = field(default_factory=lambda: Counter(NOTHING_COVERED))
    drafts: list[Draft] = field(default_factory=list)  # of each whole answer, in order
    dropped: list[tuple[str, str]] = field(default_factory=list)  # of all answers, and why: for `preview`
    verdicts: Verdicts = field(default_factory=dict)  # of the second look that counts
    looking: LLMSession | None = None  # the second look's calls
    _parts: Sequence[Sequence[Note]] = ()  # the notes of each call
    _bad_parts: int = 0
    _question: Question | None = None  # of the last whole answer
    _look_reserved: Reservation | None = None

    @property
    def spent(self) -> Spent:
        """What all its calls took so far."""
        return self.asking.spent + (self.looking.spent if self.looking is not None else Spent())

    async def draft(self) -> Draft:
        """The draft, ready to be stored. Raises ItemFault, ProviderFault, OverBudget."""
        await self._plan()
        written = await self._kept_draft() if self.resumes else None
        try:
            verified = await self._verify(written or await self._write())
        finally:
            if self.looking is not None:
                await self.looking.settle(self._look_reserved, 0)
        return self._finish(verified)

    async def unverified(self) -> Draft | None:
        """The draft that an earlier run stored for want of a second look, without one; None where there is none."""
        await self._plan()
        kept = await self._kept_draft()
        return None if kept is None else self._finish(_unverified(kept))

    async def _plan(self) -> None:
        limits = self.run.services.limits
        digest = partial(make_digest, split=self.run.services.split_sentences, language=self.m.language)
        bounds = limits.max_prompt_tokens, limits.max_parts
        self._parts = (await run_in_thread_if_large(self.m.size, plan, self.m, *bounds, digest)).parts

    async def _kept_draft(self) -> Draft | None:
        """What an earlier run stored of this very material."""
        with suppress(RecapError):
            return await self.run.read_breaker.watch(
                self.run.services.store.kept_draft(self.uid, self.day, self._draft_key())
            )
        return None

    def _draft_key(self) -> str:
        return question_hash(*(recap_question(self.m, part, self.run.services.style) for part in self._parts))

    @property
    def _notes(self) -> list[Note]:
        return [note for part in self._parts for note in part]

    @property
    def _room(self) -> int:
        """Bytes of one prompt's notes."""
        return int(self.run.services.limits.max_prompt_tokens * BYTES_A_TOKEN)

    async def _write(self) -> Draft:
        """What the LLM writes, in parts where the day is long. Raises ItemFault, ProviderFault, OverBudget."""
        parts, halvings = self._parts, 0
        if len(parts) == 1:
            try:
                self.coverage.update(note.coverage for note in parts[0])
                return await self._write_whole(recap_question(self.m, parts[0], self.run.services.style))
            except ItemFault as fault:
                if fault.reason is not ItemReason.CONTEXT_LENGTH:
                    raise
                parts, halvings = halves(parts[0]), 1
            self.coverage.clear()
        facts: list[Cited] = []
        for part in filter(None, parts):
            facts += await self._facts_of(part, halvings)
        return await self._write_whole(self._join(facts))

    async def _write_whole(self, question: Question) -> Draft:
        """The answer with more sentences, where the first was asked for again."""
        self._question = question
        reserved = await self._reserve_both(question)
        try:
            return await self.asking.read(question, partial(self._read, question), self.m.size, reserved=reserved)
        except (ItemFault, ProviderFault, OverBudget):
            best = max(self.drafts, key=verify.count_sentences, default=None)
            if best is None or best.is_empty:
                raise
            return best

    def _read(self, question: Question, text: str) -> Draft:
        evidence = Evidence(self.m, self._notes, question.marker)
        draft = read_answer(text, evidence)
        self.dropped += evidence.dropped
        checked = evidence.counts.total()
        if not checked:
            raise ItemFault(ItemReason.NOTHING_SAID, "The LLM found nothing to tell in this day's notes.")
        coverage = {**NOTHING_COVERED, **self.coverage}
        draft = replace(draft, checks={**evidence.counts}, coverage=coverage, dropped=evidence.dropped_texts)
        self.drafts.append(draft)
        if draft.is_empty or 2 * evidence.without_evidence > checked:
            raise unfounded(evidence)
        return draft

    async def _facts_of(self, part: Sequence[Note], halvings: int) -> Sequence[Cited]:
        """What is in a part of the day; what was paid for once is not paid again."""
        store, question = self.run.services.store, part_question(self.m, part)
        key = question_hash(question)
        facts = await self.run.read_breaker.watch(store.part(self.uid, self.day, key)) if self.keeps else None
        if facts is None:
            try:
                facts = await self.asking.read(question, partial(self._read_facts, question, part), self.m.size)
            except ItemFault as fault:
                return await self._facts_in_its_place(part, halvings, fault)
            if self.keeps:
                with suppress(StoreDown):  # then it may be paid again; this recap goes on
                    await self.run.read_breaker.watch(store.put_part(self.uid, self.day, key, facts))
        self.coverage.update(note.coverage for note in part)
        return facts

    def _read_facts(self, question: Question, part: Sequence[Note], text: str) -> tuple[Cited, ...]:
        evidence = Evidence(self.m, part, question.marker)
        try:
            return read_facts(text, evidence)
        finally:
            self.dropped += evidence.dropped

    async def _facts_in_its_place(self, part: Sequence[Note], halvings: int, fault: ItemFault) -> list[Cited]:
        """Halves of a part that was too long; of one that the LLM can't do, its conversations' own words."""
        if fault.reason is ItemReason.CONTEXT_LENGTH:
            if halvings >= MAX_HALVINGS:
                raise fault
            parts = filter(None, halves(part))
            return [fact for half in parts for fact in await self._facts_of(half, halvings + 1)]
        if self._bad_parts >= MAX_BAD_PARTS:
            raise fault
        self._bad_parts += 1
        self.coverage[DIGEST] += len(part)
        conversations = [self.m.conversations[note.number - 1] for note in part]
        digests = [(make_digest(c, self.run.services.split_sentences, self.m.language), c.id) for c in conversations]
        return [Cited(bounded(text, MAX_SENTENCE), (key,), bounded(text, MAX_QUOTE)) for text, key in digests if text]

    def _join(self, facts: Sequence[Cited]) -> Question:
        numbers = {c.id: n for n, c in enumerate(self.m.conversations, start=1)}
        fitting = _fitting([fact for fact in facts if set(fact.conversation_ids) <= numbers.keys()], self._room)
        if not fitting:
            bad = self.dropped or self._bad_parts
            reason = ItemReason.INVALID_ANSWER if bad else ItemReason.NOTHING_SAID
            raise ItemFault(reason, "The LLM found nothing to tell in any part of this day.")
        return join_question(self.m, fitting, numbers, self.run.services.style)

    async def _verify(self, draft: Draft) -> Draft:
        """What the second look leaves of it, or of a second answer where over half was refused.

        Raises ItemFault where nothing is left; ProviderFault where another run is to look.
        """
        verdicts = await self._second_look(draft)
        if verdicts is None:
            return _unverified(draft)
        kept = verify.apply_verdicts(draft, verdicts)
        self.verdicts = verdicts
        if verify.most_unsupported(verdicts) and self._question is not None and self.asking.may_begin_again:
            kept = await self._better(kept, self._question)
        if kept.is_empty:
            raise ItemFault(ItemReason.UNSUPPORTED, "The second look left nothing of what the LLM wrote.")
        return kept

    async def _better(self, kept: Draft, question: Question) -> Draft:
        """A second answer, if it can be paid and more is left of it. No fault of it costs the first."""
        self.asking.begin_again()
        question = ask_again(question, "most of its sentences do not follow from the notes.")
        may_wait, self.may_wait = self.may_wait, False
        try:
            reserved = await self._reserve_both(question)
            reader = partial(self._read, question)
            draft = await self.asking.read(question, reader, self.m.size, reserved=reserved, once=True)
            verdicts = await self._second_look(draft)
        except (ItemFault, ProviderFault, OverBudget) as fault:
            log.info("recap.not_better", **self.log_context, reason=str(fault))
            return kept
        finally:
            self.may_wait = may_wait
        if verdicts is None:
            return kept
        again = verify.apply_verdicts(draft, verdicts)
        if verify.count_sentences(again) <= verify.count_sentences(kept):
            return kept
        self.verdicts = verdicts
        return again

    async def _second_look(self, draft: Draft) -> Verdicts | None:
        """The verdicts; None where there are none to believe. Raises ProviderFault where another run is to look.

        No fault of the second look loses a recap that is paid.
        """
        if self.run.verifier is None:
            return None
        self.looking = self.looking or self.asking.second_look(self.run.verifier)
        try:
            return await self._ask_the_judge(self.looking, draft, self._room)
        except (ItemFault, OverBudget) as fault:
            log.warning("second_look.failed", **self.log_context, reason=str(fault))
        except ProviderFault as fault:
            if fault.config:
                self.run.end_second_looks(fault)
            elif self.may_wait and await self._keep(draft):
                raise ProviderFault(
                    str(fault), name=verify.NAME, retry_after=fault.retry_after, final=fault.final, unpaid=fault.unpaid
                ) from fault
            else:
                log.warning("second_look.failed", **self.log_context, reason=str(fault))
        except Exception:  # the one place that keeps a defect of ours from a recap that is paid
            self.run.defects += 1
            log.exception("second_look.defect", **self.log_context)
        return None

    async def _ask_the_judge(self, looking: LLMSession, draft: Draft, room: int, halvings: int = 0) -> Verdicts | None:
        """`room`: bytes of its prompt; half of what was sent, where the server finds that too long."""
        evidence = Evidence(self.m, self._notes)
        look = await run_in_thread_if_large(self.m.size, verify.second_look, self.m, draft, evidence, room)
        sent = len(look.question.notes.encode())
        reserved, self._look_reserved = self._look_reserved, None
        if reserved and sent > self._worst_look_bytes(self._question):
            await looking.settle(reserved, 0)
            reserved = None
        try:
            verdicts = await looking.read(look.question, look.read, self.m.size, reserved=reserved, once=True)
        except ItemFault as fault:
            if fault.reason is not ItemReason.CONTEXT_LENGTH or halvings == MAX_HALVINGS:
                raise
            return await self._ask_the_judge(looking, draft, sent // 2, halvings + 1)
        if verdicts is None:
            log.warning("second_look.unbelievable", **self.log_context)
        return verdicts

    async def _keep(self, draft: Draft) -> bool:
        """Store a draft that is paid, for a run that can have it looked at; whether that is done."""
        if not self.keeps:
            return False
        paid = replace(draft, metadata=self._metadata(draft))
        try:
            await self.run.read_breaker.watch(
                self.run.services.store.keep_draft(self.uid, self.day, self._draft_key(), paid)
            )
        except RecapError:  # a store that refuses too: then it is sent without
            return False
        return True

    async def _reserve_both(self, question: Question) -> Reservation | None:
        """The worst cost of writing, and of the second look at it, before the first is asked for.

        Raises OverBudget; ConfigFault where what one of the two costs is not known.
        """
        reserved = await self.asking.reserve(question)
        if reserved is None or self.run.verifier is None:
            return reserved
        self.looking = self.looking or self.asking.second_look(self.run.verifier)
        worst = replace(
            question,
            instructions=verify.INSTRUCTIONS,
            schema=verify.SCHEMA,
            notes=" " * self._worst_look_bytes(question),
            answer_tokens=verify.VERDICT_TOKENS,
        )
        try:
            self._look_reserved = await self.looking.reserve(worst)
        except (OverBudget, ConfigFault):
            await self.asking.settle(reserved, 0)
            raise
        return reserved

    def _worst_look_bytes(self, question: Question | None) -> int:
        whole = len(question.notes.encode()) if question is not None and len(self._parts) == 1 else self._room
        return whole + LISTED_BYTES

    def _finish(self, draft: Draft) -> Draft:
        return replace(fill_in(draft, self.m), metadata=self._metadata(draft))

    def _metadata(self, draft: Draft) -> Mapping[str, str | int | float]:
        """Of which models it is and what it cost, an earlier run's share included."""
        before = draft.metadata
        spent = Spent.from_metadata(before) + self.spent
        models: dict[str, str | int | float] = {
            "model": self.asking.model or before.get("model", ""),
            "tier": self.asking.tier or before.get("tier", ""),
            "source": "llm",
        }
        if self.looking is not None and self.looking.spent.calls:
            models["verify_model"] = self.looking.model
        return {**models, **spent.as_metadata()}

    @property
    def log_context(self) -> dict[str, str]:
        """Who and when, for each event."""
        return {"uid": self.uid, "date": str(self.day)}


def _unverified(draft: Draft) -> Draft:
    return replace(draft, checks={**draft.checks, "verified": False})


def _fitting(facts: Sequence[Cited], room: int) -> list[Cited]:
    """Facts from all over the day, as many as one call holds."""
    size = sum(len(f"{fact.text}{fact.quote}".encode()) + 8 * len(fact.conversation_ids) + 40 for fact in facts)
    if size <= room:
        return list(facts)
    kept = max(1, len(facts) * room // size)
    return [facts[n * len(facts) // kept] for n in range(kept)]
