"""How much of a prompt a server reads, where it cuts the rest off and says nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog

from notifications.adapters.summarizers.openai_wire import Usage

log = structlog.get_logger()

BYTES_A_TOKEN = 16  # far more than any text has
LEAST_BYTES = 8_192  # below that no window is too small
ALIKE = 2  # tokens


class Window:
    """What is found out about it in a run. Ollama's own is 4,096 tokens, and of a longer prompt it keeps a half."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._holds: int | None = None  # tokens, once a prompt was seen to be cut

    def was_short_for(self, messages: Iterable[Mapping[str, str]], usage: Usage) -> bool:
        """Whether the server read far less than it was sent. It is told in the log once.

        Once a window was found out, a prompt that fills it alike was cut as well, however long it was.
        """
        sent = sum(len(message["content"].encode()) for message in messages)
        read = usage.read + usage.cached  # some servers tell apart what they had read before
        if usage.read == 0:
            return False
        alike = self._holds is not None and abs(read - self._holds) <= ALIKE
        if not alike and (sent < LEAST_BYTES or read * BYTES_A_TOKEN >= sent):
            return False
        if self._holds is None:
            self._holds = read
            reason = (
                f"{self._where} read {read} tokens of {sent} bytes; give it a longer window (Ollama: "
                "OLLAMA_CONTEXT_LENGTH, num_ctx), or lower RECAP_MAX_PROMPT_TOKENS."
            )
            log.warning("llm.cuts_prompts", reason=reason)
        return True
