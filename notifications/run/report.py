"""What one run tells at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from notifications.domain.errors import RecapError
from notifications.run.state import Counts, Run


@dataclass(slots=True)
class Report:
    """What one run did; `idle` where Redis said that nothing is claimable."""

    now: datetime
    idle: bool = False
    counts: Counts = field(default_factory=Counts)
    trouble: RecapError | None = None
    defects: int = 0
    llm_calls: int = 0
    tokens_used: int = 0
    unserved: int = 0
    documents_read: int = 0
    documents_written: int = 0


def report_of(run: Run, now: datetime, unserved: int = 0) -> Report:
    """The report of a run that had work."""
    summarizer = run.parts.summarizer
    return Report(
        now,
        counts=run.counts,
        trouble=run.stopped_by,
        defects=run.defects,
        llm_calls=summarizer.calls,
        tokens_used=summarizer.tokens,
        unserved=unserved,
        documents_read=run.parts.store.reads,
        documents_written=run.parts.store.writes,
    )
