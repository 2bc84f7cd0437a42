"""The job's errors. Each message is one sentence for a person, without conversation text, tokens or keys."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum


class RecapError(Exception):
    """The root of every error that the job raises on purpose."""


class UsageFault(RecapError):
    """The command line can't be carried out (exit 2)."""


class Unfinished(RecapError):
    """A command did not finish; the message says why (exit 1)."""


class ConfigFault(RecapError):
    """A setting is missing, malformed or refused (exit 3)."""


class DependencyDown(RecapError):
    """A server that the run needs is down (exit 4). `name`: redis, llm, push, or the store's."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name


class ClaimsDown(DependencyDown):
    """Redis does not answer: stop claiming; nothing is known about any claim."""


class StoreDown(DependencyDown):
    """The store failed or was too slow: the operation may have happened or not."""


class KeyTrouble(RecapError):
    """An error of one key in Redis; other keys are not affected."""


class Malformed(RecapError):
    """A document or value is not what the protocol says; the message names it."""


class NaiveDatetime(ValueError):
    """An instant was given as a datetime without a zone."""


class ItemReason(StrEnum):
    """Why an item can't be summarized; each counts against the item."""

    CONTEXT_LENGTH = "context_length"
    CONTENT_POLICY = "content_policy"
    REFUSAL = "refusal"
    TRUNCATED = "truncated"
    INVALID_ANSWER = "invalid_answer"
    UNFOUNDED = "unfounded"  # most of the answer's sentences have no evidence
    UNSUPPORTED = "unsupported"  # the second look supports no sentence
    NOTHING_SAID = "nothing_said"  # a well-formed answer without a sentence
    UNSTORABLE = "unstorable"  # the store refuses the document for good


# If many items in a row fail for one of these reasons, it is the provider's fault.
MAY_BE_THE_PROVIDERS = frozenset({ItemReason.TRUNCATED, ItemReason.INVALID_ANSWER, ItemReason.UNFOUNDED})


class ItemFault(RecapError):
    """The summarizer failed on this item, which is dead after some such faults. `unpaid`: the call cost nothing."""

    def __init__(self, reason: ItemReason, sentence: str, *, unpaid: bool = False) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.unpaid = unpaid


class OverBudget(RecapError):
    """The day's budget for the LLM is used up (RECAP_DAILY_BUDGET_USD)."""


class ProviderFault(RecapError):
    """The provider failed, not the item: never charged to a user, and counted by the breaker.

    `final`: this run must not ask again (a quota is used up). `config`: only a person can correct it (a refused key,
    an unknown model); exit 3. `cheap`: only the cheaper tier failed. `unpaid`: the call cost nothing. `code`: what
    happened in letters, digits and _, for claims and counts.
    """

    def __init__(
        self,
        sentence: str,
        *,
        name: str = "llm",
        retry_after: timedelta | None = None,
        final: bool = False,
        config: bool = False,
        cheap: bool = False,
        unpaid: bool = False,
        code: str = "",
    ) -> None:
        super().__init__(sentence)
        self.name = name
        self.code = code
        self.retry_after = retry_after
        self.final = final or config
        self.cheap = cheap
        self.unpaid = unpaid
        self.config = config

    @property
    def reason(self) -> str:
        """Why its user waits, as the claim keeps it: provider_llm_429."""
        return "_".join(filter(None, ("provider", self.name, self.code)))
