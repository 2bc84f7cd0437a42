"""A figure in one user's ledger that can't be: that ledger is named as unreadable, and nobody else is affected."""

from __future__ import annotations

import json
from typing import Any

from tests.support.jobs import Stage
from tests.support.worlds import SqliteWorld

FIGURES: dict[str, dict[str, Any]] = {
    "count-huge": {"failures": 10**30},
    "count-negative": {"tries": -1},
    "infinite": {"usd": float("inf")},
    "nan": {"llm_seconds": float("nan")},
    "negative": {"usd": -0.01},
    "tokens-huge": {"tokens": 10**18},
}


def test_one_odd_figure_is_one_unreadable_ledger(stage: Stage) -> None:
    slot = stage.add_user("good")
    day = slot.recap_date.isoformat()
    odd = dict(FIGURES)
    if isinstance(stage.world, SqliteWorld):
        odd["huge"] = {"usd": 10**400}
    else:
        odd["count-huge"] = {"failures": 2**62}
    assert stage.run().code == 0
    whole = stage.world.ledgers("good")[day]
    for uid, changes in odd.items():
        stage.add_user(uid)
        stage.world.put_ledger(uid, day, whole | changes)
    audited = stage.run("audit", "--date", day, "--json")
    told = audited.accounts
    assert (audited.code, sorted(told["uids"]["unreadable"])) == (1, sorted(odd))
    assert (told["uids"]["sent"], told["counts"]["sent"], told["sources"]) == (["good"], 1, {"llm": 1})
    assert json.loads(json.dumps(told, allow_nan=False))
    page = stage.folder / "page.html"
    assert stage.run("report", "--date", day, "-o", str(page)).code == 0
    assert "unreadable" in page.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in stage.run("inspect", "--date", day, "--json").out.splitlines()]
    assert {row["uid"]: row["ledger"] for row in rows} == {"good": "sent"} | dict.fromkeys(odd, "unreadable")
    why = stage.run("why", "nan", day)
    assert (why.code, why.err) == (1, "")
    assert f"by hand; correct or delete users/nan/recap_deliveries/{day}." in " ".join(why.out.split())
