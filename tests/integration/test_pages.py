"""`show` and `preview`: a text is looked at before it is believed."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from notifications.domain.text import width_of
from tests.support.answers import item, recap_answer, verdicts_answer
from tests.support.hostile import hostile
from tests.support.jobs import JOB, Stage
from tests.support.web import ASKED, completion
from tests.support.worlds import talk

WIDE = 80


def check_readable(out: str) -> None:
    """No line is wider than a terminal, and none could steer it."""
    for line in out.splitlines():
        assert width_of(line) <= WIDE, line
        assert hostile(line) == [], line


def test_show_prints_the_whole_recap(stage: Stage) -> None:
    slot = stage.add_user("ann")
    assert stage.run().code == 0
    shown = stage.run("show", "ann")
    assert shown.code == 0
    check_readable(shown.out)
    lines = shown.out.splitlines()
    assert lines[0] == f"users/ann/daily_summaries, {slot.recap_date}"
    assert "🌤️ A day of ann, first take" in lines
    assert "You talked about ann, first take and more. It went well." in lines
    assert lines[lines.index("💬 Talk") + 1] == "   A good one."
    assert lines[lines.index("Open questions") + 1] == "  - What comes next?"
    assert lines[lines.index("To do") + 1] == "  [ ] Buy seeds"
    assert "Made by fake-model, 2 calls," in shown.out
    assert " ".join(lines[-2:]) == (
        "Of the conversations: 2 whole. 4 sentences kept, dropped: none. A second look checked it."
    )
    assert stage.run("show", "ann", slot.recap_date.isoformat()).out == shown.out


def test_who_has_no_recap_is_told_so(stage: Stage) -> None:
    slot = stage.add_user("ann")
    shown = stage.run("show", "ann", slot.recap_date.isoformat())
    assert (shown.code, shown.out) == (
        1,
        f"ann has no recap on {slot.recap_date}; python job.py why ann says why.\n",
    )
    nobody = stage.run("show", "nobody")
    assert (nobody.code, nobody.err) == (2, "users/nobody does not exist; check the uid.\n")


def test_another_hands_recap_is_shown_as_far_as_it_goes(stage: Stage) -> None:
    day = stage.add_user("ann").recap_date.isoformat()
    odd: dict[str, Any] = {
        "date": day,
        "headline": "H\x1b[2J\u202ee",
        "overview": ["no text"],
        "stats": {"total_conversations": "many"},
        "highlights": [{"topic": "T", "summary": "wort " * 60}, "odd", 7],
        "decisions_made": ["bare"],
        "metadata": "none",
        "coverage": [1],
        "checks": {"kept": 1, "odd\x07": 2},
    }
    stage.world.put_summary("ann", day, odd)
    shown = stage.run("show", "ann", day)
    assert shown.code == 0
    check_readable(shown.out)
    assert "(no overview)" in shown.out
    assert "Made by another writer." in shown.out


def test_words_without_spaces_are_broken_anywhere(stage: Stage) -> None:
    slot = stage.add_user("ann", talks={}, language="ja")
    said = talk("ann", slot.at - timedelta(hours=1))
    said["structured"] |= {
        "title": "公園",
        "overview": "公園で友達と夏祭りの計画について長い時間話し合い、" * 6 + "帰りました。",
    }
    stage.world.put_talk("ann", "t1", said)
    assert stage.run(RECAP_SUMMARIZER="extract").code == 0
    shown = stage.run("show", "ann")
    check_readable(shown.out)
    assert max(width_of(line) for line in shown.out.splitlines()) >= 78


def test_preview_makes_the_recap_and_stores_and_sends_nothing(stage: Stage) -> None:
    slot = stage.add_user("ann")

    async def invents(who: str) -> Any:
        invented = item("You paid 4,711 euros.", "4,711 euros, he said")
        return completion(json.dumps(recap_answer(who, decisions=[invented])))

    async def refuses(who: str) -> Any:
        refused = verdicts_answer(ASKED.get()["messages"][-1]["content"], lambda role, text: text == "It went well.")
        return completion(json.dumps(refused))

    stage.llm.script, stage.llm.look_script = invents, refuses
    shown = stage.run("preview", "ann", "--date", slot.recap_date.isoformat())
    assert shown.code == 0, shown.err
    check_readable(shown.out)
    assert "  dropped (unquoted): You paid 4,711 euros." in shown.out
    assert "  not supported (sentence): It went well.\n    the second look: not in the notes\n" in shown.out
    assert " ".join(shown.out.split()).count("100 tokens in (0 cached), 20 out (0 hidden), 0.0000 USD.") == 2
    assert [line.split()[0] for line in shown.out.splitlines()[-6::2]] == ["Android", "iOS", "web"]
    assert (stage.world.summaries("ann"), stage.world.ledgers("ann"), dict(stage.fcm.asked)) == ({}, {}, {})
    assert (stage.llm.calls["ann"], stage.llm.looks["ann"]) == (1, 1)


def test_preview_of_a_day_that_the_llm_can_not_do_says_why(stage: Stage) -> None:
    stage.add_user("ann")

    async def useless(who: str) -> Any:
        return completion("no recap")

    stage.llm.script = useless
    shown = stage.run("preview", "ann")
    assert shown.code == 0, shown.err
    assert "The LLM's recap was not used: The LLM's answer does not follow the recap's schema" in " ".join(
        shown.out.split()
    )
    stage.add_user("bob", talks={})
    nothing = stage.run("preview", "bob")
    assert (nothing.code, "nothing to say" in nothing.out) == (1, True)


@pytest.mark.parametrize("arguments", [("show",), ("preview",), ("show", "a/b"), ("show", "ann", "soon")])
def test_what_can_not_be_asked_is_one_sentence(stage: Stage, arguments: tuple[str, ...]) -> None:
    refused = stage.run(*arguments)
    assert (refused.code, refused.err.count("\n"), refused.out) == (2, 1, "")


def test_without_a_uid_the_last_of_the_outbox_is_shown(tmp_path: Path) -> None:
    env = {"PATH": "/usr/bin:/bin", "RECAP_DATA_DIR": str(tmp_path / "data")}

    def job(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(JOB), *arguments], env=env, capture_output=True, text=True, check=False, timeout=60
        )

    assert job("show").returncode == 2
    assert job().returncode == 0
    pushed = json.loads((tmp_path / "data" / "outbox.jsonl").read_text().splitlines()[-1])
    shown = job("show")
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"users/{pushed['uid']}/daily_summaries")
    assert "Made of the day's own sentences, by no LLM." in shown.stdout
