"""The LLM's last day: told once a day over all processes, from 30 days before."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import date, datetime

import structlog

from notifications.domain.errors import ClaimsDown, ConfigFault, KeyTrouble
from notifications.domain.schedule import ONE_DAY
from notifications.ports import Summarizer
from notifications.run.state import Run

log = structlog.get_logger()

KEY_PREFIX = "daily_summary:shutdown:"
WARNED_DAYS = 30


async def tell_last_day(run: Run, now: datetime) -> None:
    """Log `llm.shutdown` where it is this run's turn to ask, and the model ends soon. `now`: Redis time."""
    for llm in run.llms:
        if not run.stops:
            await _tell_last_day_of(run, llm, now)


async def _tell_last_day_of(run: Run, llm: Summarizer, now: datetime) -> None:
    with suppress(ClaimsDown, ConfigFault, KeyTrouble):  # whoever needs Redis says so
        if await run.claims.take_turn(turn_key(llm.where), ONE_DAY, now):
            day = await llm.last_day()
            if day is not None and days_left(day, now) <= WARNED_DAYS:
                left = days_left(day, now)
                log.warning("llm.shutdown", model=llm.model, shuts_down_on=day.isoformat(), days_left=left)


def turn_key(where: str) -> str:
    """Held by who asked last. Of each service its own: others may use the same Redis."""
    return f"{KEY_PREFIX}{hashlib.sha256(where.encode()).hexdigest()[:16]}"


def days_left(last_day: date, now: datetime) -> int:
    """Until that date; negative after it."""
    return (last_day - now.date()).days
