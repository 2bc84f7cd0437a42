"""The drawing of the claim states in docs/protocol.md, from the table itself: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

from notifications.domain.claim import ABSENT, FINAL, TABLE, Call, ClaimAnswer, ClaimState, Record, Row, Verb

BEGIN, END = "<!-- claim states: drawn from the table by make docs -->", "<!-- end of the drawing -->"
NAMES = {ClaimState.ABSENT: "[*]", **dict.fromkeys(FINAL, "ended")}


def mermaid() -> str:
    """A Mermaid state diagram: one arrow for each row that changes what is stored."""
    arrows = dict.fromkeys(arrow for verb, rows in TABLE.items() for row in rows if (arrow := _arrow(verb, row)))
    return "\n".join(["```mermaid", "stateDiagram-v2", *(f"    {arrow}" for arrow in arrows), "```"])


def _arrow(verb: Verb, row: Row) -> str | None:
    [found] = {NAMES.get(state, state.value) for state in row.stored}
    before = ABSENT if found == "[*]" else Record(next(iter(row.stored)), "me", 1, 1, 1)
    call = Call(verb, "me", now=2, lease=3, outcome=ClaimState.SENT)
    after = row.after(call, before) if row.after else before
    if after == before and row.answer is not ClaimAnswer.OK:
        return None
    if verb in (Verb.COMPLETE, Verb.FREE, Verb.FORGET, Verb.FAIL) and row.condition.startswith("a repeat"):
        return None
    return f"{found} --> {NAMES.get(after.state, after.state.value)}: {verb.value}, {row.condition}"


def redrawn(text: str) -> str:
    """The text with the drawing between its two marks made anew."""
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{mermaid()}\n{END}{tail}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(redrawn(path.read_text(encoding="utf-8")), encoding="utf-8")
