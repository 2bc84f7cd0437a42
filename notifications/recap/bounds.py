"""How long the parts of a recap may be, in characters and counts, and how much is read for one.

The prompt names the counts and the push's length; the code enforces all bounds, since servers ignore those of a schema.
A text that is too long is dropped, not cut: a cut sentence may say the opposite.
"""

from __future__ import annotations

MAX_HEADLINE, MAX_TOPIC, MAX_PUSH = 120, 80, 140
MAX_SENTENCE, MAX_QUOTE = 400, 300
MAX_HIGHLIGHTS, MAX_ITEMS = 4, 3  # highlights, and sentences of each
MAX_OVERVIEW = 4  # sentences of an LLM's overview
MAX_LIST = 3  # decisions, open questions, and facts: of each
MAX_LISTED = 400  # characters of a task
MAX_FACTS = 30  # facts of one part of a long day; the prompt asks for 25
MAX_READ = 5_000  # conversations of a window that a store reads, the newest ones
MAX_TEXT = 150_000  # characters of one conversation: about three hours of speech
