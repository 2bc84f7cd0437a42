"""Where in a run's messages an LLM call is paid twice, and a push repeated."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.proxies import COMMIT, CONVERSATIONS


@dataclass(frozen=True)
class Windows:
    """Where in a run's trace one user's LLM call is paid again, and its push repeated.

    `llm` and `push` are for a run that stops after a message. A run that freezes while another
    does the day also pays where it had just seen no summary: `llm_frozen` after a message,
    `llm_held` and `push_held` before it.
    """

    llm: range
    push: range
    llm_frozen: range
    llm_held: range
    push_held: range


def windows(trace: list[str], uid: str, token: str) -> Windows:
    """From the LLM's writing to the commit of begin; from FCM's answer to the commit of report.

    SQLite commits between two visible messages, so there a window ends with the second look, or is FCM's alone.
    """
    asked, looked = trace.index(f"llm {uid}"), trace.index(f"look {uid}")
    pushed = trace.index(f"fcm {token}")
    if "firestore" not in trace:
        llm, push = range(asked, looked + 1), range(pushed, pushed + 1)
        return Windows(llm, push, llm, llm, push)
    begun = max(n for n in range(pushed) if trace[n] == COMMIT)
    reported = min(n for n in range(pushed, len(trace)) if trace[n] == COMMIT)
    read = max(n for n in range(asked) if trace[n] == CONVERSATIONS)  # the look-up for a summary came just before
    return Windows(
        llm=range(asked, begun),
        push=range(pushed, reported),
        llm_frozen=range(read - 1, begun),
        llm_held=range(read, begun + 1),
        push_held=range(pushed, reported + 1),
    )
