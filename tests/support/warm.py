"""Imported by the process that fault tests fork from: every zone is read once, for all its children."""

from zoneinfo import available_timezones

from notifications.domain.schedule import zone

for name in available_timezones():
    zone(name)
