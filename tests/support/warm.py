"""Imported last by the process that fault tests fork from: every zone is read once, for all its children."""

import gc
from zoneinfo import available_timezones

from notifications.domain.schedule import zone

for name in available_timezones():
    zone(name)
gc.collect()
gc.freeze()  # else each child's first collection copies every page that it shares
