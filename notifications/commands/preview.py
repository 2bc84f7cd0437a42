"""`preview UID [--date D]`: makes the recap, and stores and sends nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date

from notifications.commands.operation import Context, usable_user
from notifications.commands.show import say_recap
from notifications.commands.terminal import say, say_wrapped, several
from notifications.domain.errors import ItemFault, OverBudget, ProviderFault
from notifications.domain.model import Draft, Recap
from notifications.domain.push import Wording, notice
from notifications.domain.schedule import Slot, latest_slot, slot_of_day
from notifications.domain.text import bounded
from notifications.recap.document import compose, recap_to
from notifications.recap.extract import extract
from notifications.recap.material import Material
from notifications.run.asking import Asking
from notifications.run.day_input import read_conversations, read_ledgers
from notifications.run.recap import Writing
from notifications.run.state import Run

# What is seen before it is opened, in characters; about, since it depends on the letters and the device.
SCREENS = (("Android", 45, 45), ("iOS", 40, 110), ("web", 50, 90))


@dataclass
class Tried:
    """What came of it, beside the recap."""

    fault: str = ""
    writing: Writing | None = None


async def preview(uid: str, day: date | None, context: Context) -> int:
    """Exit 1 where the day has nothing to say."""
    async with context.open_parts() as parts:
        run = Run(parts, context.offset, context.terminated)
        _, user = await usable_user(parts.store, uid)
        now = await context.claims.now() + context.offset
        slot = slot_of_day(user.zone, day, user.hour) if day else latest_slot(user.zone, user.hour, now)
        ledgers = await read_ledgers(run.parts.store, user, slot, run.parts.limits.look_back)
        if (late := ledgers.inverted_by) is not None:
            why = f"the ledger of {late} ends after its slot, and names nothing that it told"
            say_wrapped(f"{uid} {slot.recap_date}: what was told is not known, since {why}.")
            return 1
        found = (await read_conversations(run.parts.store, ledgers)).material(run.parts.limits.min_words)
        if found is None:
            say(f"{uid} {slot.recap_date}: nothing to say; the day would be skipped (no_content).")
            return 1
        seen = Tried()
        draft = await _draft(run, uid, slot, found, seen)
        recap = compose(found, draft, now)
        _say(run, uid, recap, found, seen)
        return 0


async def _draft(run: Run, uid: str, slot: Slot, found: Material, seen: Tried) -> Draft:
    if run.parts.summarizer is not None:
        asking = Asking(run, run.parts.summarizer, run.parts.limits.span("user_deadline"))
        seen.writing = Writing(run, found, asking, uid=uid, day=slot.recap_date, keeps=False)
        try:
            return await seen.writing.draft()
        except (ItemFault, ProviderFault, OverBudget) as fault:
            seen.fault = str(fault)
    return await asyncio.to_thread(extract, found, run.parts.split_sentences)


def _say(run: Run, uid: str, recap: Recap, found: Material, seen: Tried) -> None:
    say(f"A preview for {uid}, {recap.date}: nothing is stored, nothing is sent.")
    say("")
    say_recap(recap_to(recap))
    if seen.fault:
        say_wrapped(f"The LLM's own was not used: {seen.fault} This is the extract.")
    if seen.writing is not None:
        _say_calls("Written", seen.writing.asking)
        if seen.writing.looking is not None:
            _say_calls("Looked at", seen.writing.looking)
        _say_evidence(recap.draft, seen.writing)
    say("")
    wording = Wording(run.parts.push_text, found.language)
    shown = notice(recap.draft.headline, recap.draft.push, recap.draft.day_emoji, wording)
    for name, title, body in SCREENS:
        say_wrapped(f"{bounded(shown.title, title)}", " " * 10, f"{name:<8}  ")
        say_wrapped(bounded(shown.body, body), " " * 10)


def _say_calls(what: str, asking: Asking) -> None:
    spent = asking.spent
    usd = "price not known" if spent.usd is None else f"{spent.usd:.4f} USD"
    say_wrapped(
        f"{what} in {several(spent.calls, 'call')} of {asking.bytes_sent} bytes in all: {spent.tokens_in} tokens in "
        f"({spent.tokens_cached} cached), {spent.tokens_out} out ({spent.tokens_reasoning} hidden), {usd}."
    )


def _say_evidence(draft: Draft, writing: Writing) -> None:
    """Each sentence with the words that it rests on; then what did not stand, and what the second look said of it."""
    lists = (draft.overview, draft.decisions_made, draft.unresolved_questions, draft.knowledge_nuggets)
    say("")
    for one in (*(item for h in draft.highlights for item in h.items), *(item for items in lists for item in items)):
        say_wrapped(f"{one.text}{' (confided)' if one.confided else ''}", "    ", "  ")
        say_wrapped(f"quote: {one.quote}", "      ", "    ")
    for text, reason in writing.dropped:
        say_wrapped(f"dropped ({reason}): {text}", "    ", "  ")
    for verdict in writing.verdicts.values():
        if not verdict.supported:
            say_wrapped(f"not supported ({verdict.role}): {verdict.text}", "    ", "  ")
            say_wrapped(f"the second look: {verdict.problem or 'no reason given'}", "      ", "    ")
