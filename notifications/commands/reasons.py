"""The codes of claims and ledgers in a few words: why a day waits, failed, or is an extract."""

from __future__ import annotations

ITEM_WORDS = {
    "invalid_answer": "llm answered no JSON",
    "truncated": "llm answers were cut off",
    "unfounded": "llm words are not in the notes",
    "unsupported": "the second look left nothing",
    "nothing_said": "llm found nothing to tell",
    "refusal": "llm refused the day",
    "content_policy": "llm blocked the day",
    "context_length": "day too long for the llm",
    "unstorable": "the store refuses the recap",
}
WORDS = {
    **ITEM_WORDS,
    "": "no reason is stored",
    "llm": "llm",
    "llm_slow": "llm too slow",
    "llm_no_answer": "llm does not answer",
    "llm_no_llm_api": "no LLM answers at OPENAI_BASE_URL",
    "second_look": "second look failed",
    "budget": "the day's budget is used up",
    "closing": "llm away until the catch-up ended",
    "configuration": "a setting is wrong",
    "user_deadline": "store too slow",
    "redis": "Redis is down",
    "clock": "Redis' clock jumped",
    "push": "push service is down",
    "busy": "another sender may be at work",
    "neighbour": "a nearby day changed meanwhile",
    "resent": "an operator's resend came between",
    "crashes": "runs died over it",
    "crash": "a run died over it",
    "stopped": "the run was stopped",
    "killed_run": "a run that was killed",
    "another_run": "another run",
    "foreign": "the app, or another job",
    "unreached": "no run came",
    "malformed": "a document can't be read",
}
PUSH_WORDS = {  # of FCM's codes
    "UNREGISTERED": "the app is gone there",
    "SENDER_ID_MISMATCH": "token of another Firebase project",
    "THIRD_PARTY_AUTH_ERROR": "Apple or browser key refused",
    "INVALID_ARGUMENT": "token or message is malformed",
    "QUOTA_EXCEEDED": "too many pushes just now",
    "RATE_LIMIT_EXCEEDED": "project's push quota used up",
    "RESOURCE_EXHAUSTED": "project's push quota used up",
    "UNAVAILABLE": "FCM is overloaded or down",
    "INTERNAL": "FCM failed on its side",
    "UNAUTHENTICATED": "our credentials are refused",
    "CREDENTIALS": "our credentials can't be used",
    "PERMISSION_DENIED": "the account may not send",
    "IAM_PERMISSION_DENIED": "the account may not send",
    "SERVICE_DISABLED": "the FCM API is off",
    "NOT_FOUND": "no such Firebase project",
    "NO_ANSWER": "no answer in time",
}


def in_words(reason: str) -> str:
    """A reason as it is stored, in a few words: `provider_llm_429` is "llm 429"."""
    name = reason.removeprefix("provider_").removeprefix("open_")
    short = name.removeprefix("llm_")
    if words := WORDS.get(name) or ITEM_WORDS.get(short):
        return words
    if meaning := PUSH_WORDS.get(name.upper()):
        return f"push {name.upper()}, {meaning}"
    if name.startswith("store_"):
        return "store is down"
    if name.startswith("defect_"):
        return "a defect of this job"
    return f"llm {short}" if name != short else f"push {name}" if name.isdigit() else name
