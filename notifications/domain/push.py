"""What a push says, and what each of FCM's answers means for a device."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

BODY_LENGTH = 150  # characters
TTL = timedelta(hours=20)  # a recap that a phone gets a day late would meet the next one
NO_TEXT = "Your day in brief is ready."
NO_HEADLINE = "Your daily recap"


class Result(StrEnum):
    """What came of one push to one device. `accepted` and `gone` are what ledgers store."""

    ACCEPTED = "accepted"
    GONE = "gone"  # the token is dead: not pushed again, its document deleted if unchanged
    REFUSED = "refused"  # FCM will never take it as it is: kept, and shouted about
    BUSY = "busy"  # a definite "not now"
    UNKNOWN = "unknown"  # no answer, or one that does not say: it may have been accepted
    UNSENT = "unsent"  # it never left

    @property
    def closes(self) -> bool:
        """Whether the ledger remembers it, so that the device is not pushed again."""
        return self in (Result.ACCEPTED, Result.GONE)

    @property
    def open(self) -> bool:
        """Whether the device is to be tried again."""
        return self in (Result.BUSY, Result.UNKNOWN, Result.UNSENT)

    @property
    def definite(self) -> bool:
        """Whether it is certain that nothing, or exactly one push, was accepted."""
        return self is not Result.UNKNOWN


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the push service, in the domain's words."""

    result: Result
    code: str = ""
    retry_after: timedelta | None = None
    slow_run: bool = False  # the quota is used up: every push of this run waits
    config: bool = False  # our own credentials are refused: only a person can mend it
    retry_now: bool = False  # worth a few tries within the push deadline

    @property
    def shout(self) -> bool:
        """Whether on-call should hear of it."""
        return self.result is Result.REFUSED or self.config


QUOTA_WAIT = timedelta(seconds=60)  # QUOTA_EXCEEDED without a Retry-After (FCM's documentation)

# By FCM's error code, else by HTTP status. UNREGISTERED counts only with its 404.
ANSWERS: dict[str, Answer] = {
    "UNREGISTERED": Answer(Result.GONE),
    "INVALID_ARGUMENT": Answer(Result.REFUSED),
    "SENDER_ID_MISMATCH": Answer(Result.REFUSED),
    "THIRD_PARTY_AUTH_ERROR": Answer(Result.REFUSED),
    "QUOTA_EXCEEDED": Answer(Result.BUSY, retry_after=QUOTA_WAIT, slow_run=True),
    "UNAVAILABLE": Answer(Result.BUSY, retry_now=True),
    "INTERNAL": Answer(Result.BUSY, retry_now=True),
    "200": Answer(Result.ACCEPTED),
    "400": Answer(Result.REFUSED),
    "401": Answer(Result.BUSY, config=True),
    "403": Answer(Result.REFUSED),
    "404": Answer(Result.REFUSED),
    "429": Answer(Result.BUSY, retry_after=QUOTA_WAIT, slow_run=True),
    "500": Answer(Result.BUSY, retry_now=True),
    "503": Answer(Result.BUSY, retry_now=True),
}
UNCLEAR = Answer(Result.UNKNOWN, "UNCLEAR")


def read_answer(status: int, code: str, retry_after: timedelta | None = None) -> Answer:
    """What an HTTP status and FCM error code mean; `code` is "" where the body names none."""
    known = code in ANSWERS and (code != "UNREGISTERED" or status == 404)
    answer = ANSWERS[code] if known else ANSWERS.get(str(status), UNCLEAR)
    wait = retry_after if retry_after is not None and answer.result is Result.BUSY else answer.retry_after
    return Answer(answer.result, code or str(status), wait, answer.slow_run, answer.config, answer.retry_now)


@dataclass(frozen=True, slots=True)
class Notice:
    """The two lines that a device shows."""

    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Message:
    """One push, before it takes a vendor's form."""

    uid: str
    collapse_id: str
    title: str
    body: str
    summary_id: str
    created_at: datetime | None

    @property
    def data(self) -> dict[str, str]:
        """The data payload: strings only, as FCM demands."""
        return {
            "type": "day_summary",
            "notification_type": "daily_summary",
            "navigate_to": f"/daily-summary/{self.summary_id}",
            "id": self.summary_id,
            "created_at": self.created_at.isoformat() if self.created_at else "",
            "text": self.body,
        }


def notice(headline: str, overview: str, emoji: str) -> Notice:
    """Title: emoji and headline. Body: the overview cut at a word; never empty."""
    headline = " ".join(headline.split()) or NO_HEADLINE
    return Notice(title=f"{emoji} {headline}".strip(), body=cut(overview) or cut(headline) or NO_TEXT)


def cut(text: str, length: int = BODY_LENGTH) -> str:
    """At most `length` characters, cut after a whole word and marked with an ellipsis."""
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    head = text[: length - 1]
    if not text[length - 1].isspace() and " " in head:
        head = head[: head.rindex(" ")]
    return head.rstrip(" ,;:.-") + "…"


def deletions_allowed(devices: int) -> int:
    """How many dead tokens one run may delete: more than 20 % at once is our error, not theirs."""
    return max(10, devices // 5)
