"""What can go wrong: each message is one sentence for a person, without conversation text, tokens or keys."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum


class RecapError(Exception):
    """The root of every error that the job raises on purpose."""


class UsageFault(RecapError):
    """The command line asks for something that can't be done (exit 2)."""


class Unfinished(RecapError):
    """What was asked for is not done, and says why (exit 1)."""


class ConfigFault(RecapError):
    """A setting is missing, malformed or refused (exit 3)."""


class DependencyDown(RecapError):
    """A server that the run needs does not serve (exit 4). `name`: redis, llm, push, or the store that it is."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name


class ClaimsDown(DependencyDown):
    """Redis can't be asked: stop claiming; nothing may be concluded about any claim."""


class StoreDown(DependencyDown):
    """The document store failed or was too slow; the operation may or may not have happened."""


class KeyTrouble(RecapError):
    """One key's own error in Redis; the other keys are unaffected."""


class Malformed(RecapError):
    """One document or value is not what the design says; `where` names it."""


class NaiveDatetime(ValueError):
    """A datetime without a zone was passed where an instant is needed."""


class ItemReason(StrEnum):
    """Why this very item can't be summarized; each counts against the item."""

    CONTEXT_LENGTH = "context_length"
    CONTENT_POLICY = "content_policy"
    REFUSAL = "refusal"
    TRUNCATED = "truncated"
    INVALID_ANSWER = "invalid_answer"
    UNFOUNDED = "unfounded"  # it says what the notes do not
    UNSUPPORTED = "unsupported"  # the second look left nothing of it
    NOTHING_SAID = "nothing_said"  # a well-formed answer without a sentence
    UNSTORABLE = "unstorable"  # the store refuses this very document for good


# Where all have it in a row.
MAY_BE_THE_PROVIDERS = frozenset({ItemReason.TRUNCATED, ItemReason.INVALID_ANSWER, ItemReason.UNFOUNDED})


class ItemFault(RecapError):
    """The summarizer can't do this item: counted, dead at the limit. `unpaid`: it is known that it costs nothing."""

    def __init__(self, reason: ItemReason, sentence: str, *, unpaid: bool = False) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.unpaid = unpaid


class OverBudget(RecapError):
    """The day's money for the LLM is used up (RECAP_DAILY_BUDGET_USD); nobody's fault, and not asked again today."""


class ProviderFault(RecapError):
    """The provider failed, not the item: never charged to a user; feeds the breaker.

    `opens`: waiting in this run is useless (quota used up). `config`: only a person can mend it (a refused key, an
    unknown model); the run exits 3. `cheap`: it was the cheaper tier alone. `unpaid`: the call is known to be free.
    """

    def __init__(
        self,
        sentence: str,
        *,
        name: str = "llm",
        retry_after: timedelta | None = None,
        opens: bool = False,
        config: bool = False,
        cheap: bool = False,
        unpaid: bool = False,
    ) -> None:
        super().__init__(sentence)
        self.name = name
        self.retry_after = retry_after
        self.opens = opens or config
        self.cheap = cheap
        self.unpaid = unpaid
        self.config = config
