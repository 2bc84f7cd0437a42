"""What the evaluation prints is what a run would have stored and paid."""

from __future__ import annotations

from evals.days import load_days
from evals.llms import Maker
from notifications.domain.errors import ItemReason
from notifications.testing import MemorySummarizer, answered


async def test_what_useless_answers_cost_is_counted_though_the_extract_is_stored() -> None:
    [day] = [one for one in load_days() if one.name == "en-thin-1"]
    llm = MemorySummarizer()
    llm.script = lambda question: answered("{", ItemReason.TRUNCATED)
    made = await Maker("useless", llm).make(day)
    assert (made.fault, made.recap.is_extract, llm.calls) == ("truncated", True, 2)
    paid = {name: made.recap.draft.metadata[name] for name in ("calls", "tokens_in", "tokens_out", "usd")}
    assert paid == {"calls": 2, "tokens_in": 200, "tokens_out": 40, "usd": 0.0001}
