"""How long the parts of a recap are, by code, since servers ignore what a schema says; and how much is read for it.

Characters, and counts.
"""

from __future__ import annotations

MAX_HEADLINE, MAX_OVERVIEW, MAX_TOPIC, MAX_SUMMARY, MAX_LISTED = 120, 1_500, 80, 600, 400
MAX_SENTENCE = 400
MAX_HIGHLIGHTS, MAX_LIST = 4, 3
MAX_FACTS = 30  # of one part of a long day; 25 are asked for
MAX_READ = 5_000  # conversations of a window that a store hands over, the newest: more is no person's day
MAX_TEXT = 150_000  # of one conversation that are looked at: some three hours of talk
