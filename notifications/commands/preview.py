"""`preview UID [--date D]`: makes the recap, and stores and sends nothing."""

from __future__ import annotations

import asyncio
from datetime import date
from itertools import chain

from notifications.commands.context import Context, slot_in_question, usable_user
from notifications.commands.show import say_recap
from notifications.commands.terminal import say, say_wrapped, several
from notifications.domain.errors import ItemFault, OverBudget, ProviderFault
from notifications.domain.model import Draft, Recap
from notifications.domain.notice import Wording, notice
from notifications.domain.text import bounded
from notifications.recap.document import compose, recap_to
from notifications.recap.extract import extract
from notifications.run.day_input import read_conversations, read_ledgers
from notifications.run.llm_session import LLMSession
from notifications.run.writer import RecapWriter

# About how many characters of title and text are seen before it is opened.
SCREENS = (("Android", 45, 45), ("iOS", 40, 110), ("web", 50, 90))


async def preview(uid: str, day: date | None, context: Context) -> int:
    """Print the recap that would be made. Returns 1 if the day has nothing to say."""
    async with context.open_run() as run:
        document, user = await usable_user(run.services.store, uid)
        now = await context.now()
        slot = slot_in_question(run.services.limits.rules, document, user, now, day)
        ledgers = await read_ledgers(run.services.store, user, slot, run.services.limits.look_back)
        if (day := ledgers.inverted_by) is not None:
            why = f"the ledger of {day} ends after its slot, and does not list its conversations"
            say_wrapped(f"{uid} {slot.recap_date}: which conversations are new is not known, since {why}.")
            return 1
        material = (await read_conversations(run.services.store, ledgers)).material(run.services.limits.min_words)
        if material is None:
            say(f"{uid} {slot.recap_date}: nothing to say; the day would be skipped (no_content).")
            return 1
        writer, fault, draft = None, "", None
        if run.services.summarizer is not None:
            session = LLMSession(run, run.services.summarizer, run.services.limits.duration("user_deadline"))
            writer = RecapWriter(run, material, session, uid=uid, can_store=False)
            try:
                draft = await writer.draft()
            except (ItemFault, ProviderFault, OverBudget) as raised:
                fault = str(raised)
        if draft is None:
            draft = await asyncio.to_thread(extract, material, run.services.split_sentences)
    _say_preview(uid, compose(material, draft, now), writer, fault)
    _say_push(draft, Wording(run.services.push_text, material.language))
    return 0


def _say_preview(uid: str, recap: Recap, writer: RecapWriter | None, fault: str) -> None:
    say(f"A preview for {uid}, {recap.date}: nothing is stored, nothing is sent.")
    say("")
    say_recap(recap_to(recap))
    if fault:
        say_wrapped(f"The LLM's recap was not used: {fault} This is the extract.")
    if writer is not None:
        _say_calls("Written", writer.session)
        if writer.verification is not None:
            _say_calls("Checked", writer.verification)
        _say_evidence(recap.draft, writer)


def _say_push(draft: Draft, wording: Wording) -> None:
    say("")
    shown = notice(draft.headline, draft.push, draft.day_emoji, wording)
    for name, title, body in SCREENS:
        say_wrapped(f"{bounded(shown.title, title)}", " " * 10, f"{name:<8}  ")
        say_wrapped(bounded(shown.body, body), " " * 10)


def _say_calls(what: str, session: LLMSession) -> None:
    spent = session.spent
    usd = "price not known" if spent.usd is None else f"{spent.usd:.4f} USD"
    say_wrapped(
        f"{what} in {several(spent.calls, 'call')} of {session.bytes_sent} bytes in all: {spent.tokens_in} tokens in "
        f"({spent.tokens_cached} cached), {spent.tokens_out} out ({spent.tokens_reasoning} hidden), {usd}."
    )


def _say_evidence(draft: Draft, writer: RecapWriter) -> None:
    """Print each sentence with its quote; then what was dropped, and the second look's objections."""
    lists = (draft.overview, draft.decisions_made, draft.unresolved_questions, draft.knowledge_nuggets)
    say("")
    highlights = chain.from_iterable(highlight.items for highlight in draft.highlights)
    for item in chain(highlights, *lists):
        say_wrapped(f"{item.text}{' (confided)' if item.private else ''}", "    ", "  ")
        say_wrapped(f"quote: {item.quote}", "      ", "    ")
    for text, reason in writer.dropped:
        say_wrapped(f"dropped ({reason}): {text}", "    ", "  ")
    for verdict in writer.verdicts.values():
        if not verdict.supported:
            say_wrapped(f"not supported ({verdict.role}): {verdict.text}", "    ", "  ")
            say_wrapped(f"the second look: {verdict.problem or 'no reason given'}", "      ", "    ")
