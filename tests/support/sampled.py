"""Which sample users a new data folder has at this time of the day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from notifications.adapters.local import samples
from notifications.adapters.stores.layout import read_layout


def sample_besides(uid: str = "") -> str:
    """A sample user who is put in now and in the next minutes, and is switched on.

    Whose slot ended unserved by then is left out.
    """
    now = datetime.now(UTC)
    found = [
        {one[0] for one in samples.samples(read_layout(None), now + later) if one[1]["daily_summary_enabled"]}
        for later in (timedelta(0), timedelta(minutes=15))
    ]
    return min(set.intersection(*found) - {uid})
