"""How long the parts of a recap may be, in characters and counts, and how much is read for one.

Code holds these bounds, since servers ignore those of a schema. A text that is too long is left out whole: "don't"
without its end would say the opposite.
"""

from __future__ import annotations

MAX_HEADLINE, MAX_TOPIC, MAX_PUSH = 120, 80, 140
MAX_SENTENCE, MAX_QUOTE = 400, 300
MAX_HIGHLIGHTS, MAX_ITEMS = 4, 3  # topics, and sentences of each
MAX_OVERVIEW, MAX_LIST = 4, 3  # sentences of an LLM's overview; of decisions, open questions, and facts
MAX_LISTED = 400  # of a thing to do
MAX_FACTS = 30  # of one part of a long day; 25 are asked for
MAX_READ = 5_000  # conversations of a window that a store reads, the newest
MAX_TEXT = 150_000  # of one conversation: some three hours of talk
