"""Writes one recap with the LLM: plan, write, check, verify."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
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
from notifications.domain.money import NOTHING, Spent
from notifications.domain.question import Question
from notifications.domain.text import bounded
from notifications.recap import verify
from notifications.recap.answer import read_answer, read_facts, unfounded
from notifications.recap.bounds import MAX_QUOTE, MAX_SENTENCE
from notifications.recap.evidence import Evidence
from notifications.recap.extract import make_digest
from notifications.recap.material import Material
from notifications.recap.plan import BYTES_A_TOKEN, DIGEST, NOTHING_COVERED, Note, fit_facts, halves, plan
from notifications.recap.prompt import ask_again, join_question, part_question, question_hash, recap_question
from notifications.recap.stand_ins import fill_in
from notifications.recap.verify import Verdict
from notifications.run.llm_session import LLMSession, Reservation, run_in_thread_if_large
from notifications.run.state import Run

log = structlog.get_logger()

MAX_HALVINGS = 3  # of notes that a server finds too long: our estimate of their tokens may be wrong
MAX_BAD_PARTS = 1  # parts that may be replaced by their digests; with more the model is at fault
LISTED_BYTES = 20_000  # reserved for the sentences that the second look is asked about

Verdicts = Mapping[tuple[str, str], Verdict]


class RecapWriter:
    """Writes one day's recap; one instance for each try.

    `can_store`: whether paid answers may be stored, so that a retry does not pay for them again. `draft_may_exist`:
    whether an earlier run may have stored a draft because the second look failed. `can_retry_later`: whether a later
    run can give the second look. `spent_before`: the cost of earlier tries.
    """

    def __init__(
        self,
        run: Run,
        material: Material,
        session: LLMSession,
        *,
        uid: str,
        can_store: bool = True,
        draft_may_exist: bool = False,
        can_retry_later: bool = False,
        spent_before: Spent = NOTHING,
    ) -> None:
        self.session = session
        self.verification: LLMSession | None = None  # the calls of the second look
        self.dropped: list[tuple[str, str]] = []  # sentences of all answers, and why each was dropped (for `preview`)
        self.verdicts: Verdicts = {}  # verdicts on the draft that is returned
        self._run = run
        self._services = run.services
        self._material = material
        self._uid = uid
        self._day = material.date
        self.log_context = {"uid": uid, "date": str(material.date)}  # the fields that every log event of this recap has
        self._prompt_bytes = int(run.services.limits.max_prompt_tokens * BYTES_A_TOKEN)  # of one prompt's notes
        self._can_store = can_store
        self._draft_may_exist = draft_may_exist
        self._can_retry_later = can_retry_later
        self._spent_before = spent_before
        self._note_groups: Sequence[Sequence[Note]] = ()  # the notes of each call
        self._bad_parts = 0
        self._drafts: list[Draft] = []  # of each whole answer, in order
        self._question: Question | None = None  # the last question for a whole recap
        self._coverage: Counter[str] = Counter()  # how the conversations entered that question
        self._verification_reservation: Reservation | None = None

    @property
    def spent(self) -> Spent:
        """Cost of all calls so far."""
        verification = self.verification.spent if self.verification is not None else NOTHING
        return self._spent_before + self.session.spent + verification

    async def draft(self) -> Draft:
        """Write the draft, ready to be stored. Raises ItemFault, ProviderFault or OverBudget."""
        await self._plan()
        stored = await self._stored_draft() if self._draft_may_exist else None
        try:
            supported = await self._keep_supported(stored or await self._write())
        finally:
            if self.verification is not None:
                await self.verification.settle(self._verification_reservation, 0)
        return self._finish(supported)

    async def unverified(self) -> Draft | None:
        """The stored draft, marked as unverified; None if there is none."""
        await self._plan()
        stored = await self._stored_draft()
        return None if stored is None else self._finish(_mark_unverified(stored))

    async def _plan(self) -> None:
        limits, material = self._services.limits, self._material
        digest = partial(make_digest, split=self._services.split_sentences, language=material.language)
        planned = await run_in_thread_if_large(
            material.size, plan, material, limits.max_prompt_tokens, limits.max_parts, digest
        )
        self._note_groups = planned.parts

    async def _stored_draft(self) -> Draft | None:
        """The draft that an earlier run stored for exactly this material, if any."""
        stored = self._services.store.kept_draft(self._uid, self._day, self._draft_key())
        with suppress(RecapError):
            if draft := await self._run.read_breaker.watch(stored):
                # Both sum up all tries until they were stored: the later has more.
                costs = (self._spent_before, Spent.from_metadata(draft.metadata))
                self._spent_before = max(costs, key=lambda spent: spent.tokens)
                return draft
        return None

    def _draft_key(self) -> str:
        style = self._services.style
        return question_hash(*(recap_question(self._material, notes, style) for notes in self._note_groups))

    @property
    def _notes(self) -> list[Note]:
        return [note for notes in self._note_groups for note in notes]

    async def _write(self) -> Draft:
        """Let the LLM write the recap, in parts if the day is long. Raises ItemFault, ProviderFault or OverBudget."""
        parts, halvings = self._note_groups, 0
        if len(parts) == 1:
            question = recap_question(self._material, parts[0], self._services.style)
            try:
                return await self._ask_for_recap(question, Counter(note.coverage for note in parts[0]))
            except ItemFault as error:
                if error.reason is not ItemReason.CONTEXT_LENGTH:
                    raise
                parts, halvings = halves(parts[0]), 1
        facts: list[Cited] = []
        coverage: Counter[str] = Counter()
        for part in filter(None, parts):
            facts += await self._facts_of(part, halvings, coverage)
        return await self._ask_for_recap(self._join_question(facts), coverage)

    async def _ask_for_recap(self, question: Question, coverage: Counter[str]) -> Draft:
        """Ask one question; if all tries fail, return the best draft that was parsed on the way."""
        self._question, self._coverage = question, coverage
        reserved = await self._reserve_both(question)
        parse = partial(self._parse_recap, question)
        try:
            return await self.session.ask(question, parse, self._material.size, reserved=reserved)
        except (ItemFault, ProviderFault, OverBudget):
            best = max(self._drafts, key=verify.count_sentences, default=None)
            if best is None or best.is_empty:
                raise
            return best

    def _parse_recap(self, question: Question, text: str) -> Draft:
        """Parse an answer; record its draft and what was dropped.

        Raises ItemFault, also after recording a draft without evidence, which _ask_for_recap may still return.
        """
        evidence = Evidence(self._material, self._notes, question.marker)
        draft = read_answer(text, evidence)
        self.dropped += evidence.dropped
        checked = evidence.counts.total()
        if not checked:
            raise ItemFault(ItemReason.NOTHING_SAID, "The LLM found nothing to tell in this day's notes.")
        coverage = {**NOTHING_COVERED, **self._coverage}
        draft = replace(draft, checks={**evidence.counts}, coverage=coverage, dropped=evidence.dropped_texts)
        self._drafts.append(draft)
        mostly_unfounded = evidence.without_evidence > checked / 2
        if draft.is_empty or mostly_unfounded:
            raise unfounded(evidence)
        return draft

    async def _facts_of(self, part: Sequence[Note], halvings: int, coverage: Counter[str]) -> Sequence[Cited]:
        """Facts of one part, from the store if an earlier run has paid for them. Adds its notes to `coverage`."""
        store, question = self._services.store, part_question(self._material, part)
        key = question_hash(question)
        facts = None
        if self._can_store:
            facts = await self._run.read_breaker.watch(store.part(self._uid, self._day, key))
        if facts is None:
            parse = partial(self._parse_facts, question, part)
            try:
                facts = await self.session.ask(question, parse, self._material.size)
            except ItemFault as error:
                return await self._fallback_facts(part, halvings, coverage, error)
            if self._can_store:
                with suppress(StoreDown):  # best effort: without the stored part a retry pays for it again
                    await self._run.read_breaker.watch(store.put_part(self._uid, self._day, key, facts))
        coverage.update(note.coverage for note in part)
        return facts

    def _parse_facts(self, question: Question, part: Sequence[Note], text: str) -> tuple[Cited, ...]:
        evidence = Evidence(self._material, part, question.marker)
        try:
            return read_facts(text, evidence)
        finally:
            self.dropped += evidence.dropped

    async def _fallback_facts(
        self, part: Sequence[Note], halvings: int, coverage: Counter[str], fault: ItemFault
    ) -> list[Cited]:
        """Split a part that was too long; replace one that the LLM can't handle by its digests."""
        if fault.reason is ItemReason.CONTEXT_LENGTH:
            if halvings >= MAX_HALVINGS:
                raise fault
            parts = filter(None, halves(part))
            return [fact for half in parts for fact in await self._facts_of(half, halvings + 1, coverage)]
        if self._bad_parts >= MAX_BAD_PARTS:
            raise fault
        self._bad_parts += 1
        coverage[DIGEST] += len(part)
        facts: list[Cited] = []
        for note in part:
            conversation = self._material.conversations[note.number - 1]
            if text := make_digest(conversation, self._services.split_sentences, self._material.language):
                facts.append(Cited(bounded(text, MAX_SENTENCE), (conversation.id,), bounded(text, MAX_QUOTE)))
        return facts

    def _join_question(self, facts: Sequence[Cited]) -> Question:
        """The question that joins the parts' facts. Raises ItemFault if there are none."""
        numbers = {talk.id: number for number, talk in enumerate(self._material.conversations, start=1)}
        known = [fact for fact in facts if set(fact.conversation_ids) <= numbers.keys()]
        fitting = fit_facts(known, self._prompt_bytes)
        if not fitting:
            had_bad_answers = bool(self.dropped) or self._bad_parts > 0
            reason = ItemReason.INVALID_ANSWER if had_bad_answers else ItemReason.NOTHING_SAID
            raise ItemFault(reason, "The LLM found nothing to tell in any part of this day.")
        return join_question(self._material, fitting, numbers, self._services.style)

    async def _keep_supported(self, draft: Draft) -> Draft:
        """Return the supported part of the draft.

        If most of it is unsupported, ask for a second answer and keep the better one. Raises ItemFault if nothing is
        supported; ProviderFault if a later run should verify it.
        """
        verdicts = await self._verify(draft, can_retry_later=self._can_retry_later)
        if verdicts is None:
            return _mark_unverified(draft)
        supported = verify.apply_verdicts(draft, verdicts)
        self.verdicts = verdicts
        if verify.most_unsupported(verdicts) and self._question is not None and self.session.may_begin_again:
            supported = await self._try_second_answer(supported, self._question)
        if supported.is_empty:
            raise ItemFault(ItemReason.UNSUPPORTED, "The second look left nothing of what the LLM wrote.")
        return supported

    async def _try_second_answer(self, first: Draft, question: Question) -> Draft:
        """Ask for a second answer; return it if more of it is supported. Errors are logged: `first` is never lost."""
        self.session.begin_again()
        question = ask_again(question, "most of its sentences do not follow from the notes.")
        parse = partial(self._parse_recap, question)
        try:
            reserved = await self._reserve_both(question)
            draft = await self.session.ask(question, parse, self._material.size, reserved=reserved, once=True)
            verdicts = await self._verify(draft, can_retry_later=False)
        except (ItemFault, ProviderFault, OverBudget) as error:
            log.info("recap.not_better", **self.log_context, reason=str(error))
            return first
        if verdicts is None:
            return first
        second = verify.apply_verdicts(draft, verdicts)
        if verify.count_sentences(second) <= verify.count_sentences(first):
            return first
        self.verdicts = verdicts
        return second

    async def _verify(self, draft: Draft, *, can_retry_later: bool) -> Verdicts | None:
        """Give the draft its second look. Returns None if there are no credible verdicts.

        Errors of the second look never discard the draft. Raises ProviderFault if the draft was stored, so that a later
        run can verify it.
        """
        if self._run.verifier is None:
            return None
        self.verification = self.verification or self.session.for_verification(self._run.verifier)
        try:
            return await self._ask_verifier(self.verification, draft, self._prompt_bytes)
        except (ItemFault, OverBudget) as error:
            log.warning("second_look.failed", **self.log_context, reason=str(error))
        except ProviderFault as error:
            if error.config:
                self._run.end_second_looks(error)
            elif can_retry_later and await self._store_draft(draft):
                raise ProviderFault(
                    str(error),
                    name=verify.NAME,
                    retry_after=error.retry_after,
                    final=error.final,
                    unpaid=error.unpaid,
                ) from error
            else:
                log.warning("second_look.failed", **self.log_context, reason=str(error))
        except Exception:  # broad on purpose: a bug in verification must not cost a paid draft
            self._run.defects += 1
            log.exception("second_look.defect", **self.log_context)
        return None

    async def _ask_verifier(
        self, verification: LLMSession, draft: Draft, prompt_bytes: int, halvings: int = 0
    ) -> Verdicts | None:
        """Ask for verdicts; if the server finds the prompt too long, ask again with half of what was sent."""
        evidence = Evidence(self._material, self._notes)
        material = self._material
        look = await run_in_thread_if_large(material.size, verify.second_look, material, draft, evidence, prompt_bytes)
        sent_bytes = len(look.question.notes.encode())
        reserved, self._verification_reservation = self._verification_reservation, None
        if reserved and sent_bytes > self._max_verification_bytes(self._question):
            await verification.settle(reserved, 0)
            reserved = None
        try:
            verdicts = await verification.ask(look.question, look.read, material.size, reserved=reserved, once=True)
        except ItemFault as error:
            if error.reason is not ItemReason.CONTEXT_LENGTH or halvings == MAX_HALVINGS:
                raise
            return await self._ask_verifier(verification, draft, sent_bytes // 2, halvings + 1)
        if verdicts is None:
            log.warning("second_look.unbelievable", **self.log_context)
        return verdicts

    async def _store_draft(self, draft: Draft) -> bool:
        """Store the paid draft so that a later run can verify it. Returns whether it was stored."""
        if not self._can_store:
            return False
        paid = replace(draft, metadata=self._metadata(draft))
        store = self._services.store
        try:
            await self._run.read_breaker.watch(store.keep_draft(self._uid, self._day, self._draft_key(), paid))
        except RecapError:  # not stored either: the caller sends it unverified
            return False
        return True

    async def _reserve_both(self, question: Question) -> Reservation | None:
        """Reserve the worst cost of an answer and of its second look, before either is asked for.

        Raises OverBudget, or ConfigFault if the cost of one of the two is not known.
        """
        reserved = await self.session.reserve(question)
        if reserved is None or self._run.verifier is None:
            return reserved
        self.verification = self.verification or self.session.for_verification(self._run.verifier)
        worst = replace(
            question,
            instructions=verify.INSTRUCTIONS,
            schema=verify.SCHEMA,
            notes=" " * self._max_verification_bytes(question),  # only their length matters to worst_cost()
            answer_tokens=verify.VERDICT_TOKENS,
        )
        try:
            self._verification_reservation = await self.verification.reserve(worst)
        except (OverBudget, ConfigFault):
            await self.session.settle(reserved, 0)
            raise
        return reserved

    def _max_verification_bytes(self, question: Question | None) -> int:
        """How many bytes of notes the second look at an answer to this question may need."""
        if question is None or len(self._note_groups) != 1:
            return self._prompt_bytes + LISTED_BYTES
        return len(question.notes.encode()) + LISTED_BYTES

    def _finish(self, draft: Draft) -> Draft:
        return replace(fill_in(draft, self._material), metadata=self._metadata(draft))

    def _metadata(self, draft: Draft) -> Mapping[str, str | int | float]:
        """Models and cost, including those of the run that stored the draft."""
        before = draft.metadata
        models: dict[str, str | int | float] = {
            "model": self.session.model or before.get("model", ""),
            "tier": self.session.tier or before.get("tier", ""),
            "source": "llm",
        }
        if self.verification is not None and self.verification.spent.calls:
            models["verify_model"] = self.verification.model
        return {**models, **self.spent.as_metadata()}


def _mark_unverified(draft: Draft) -> Draft:
    return replace(draft, checks={**draft.checks, "verified": False})
