"""The evaluation with a server: a judge that knows the labels loses nothing true and stores nothing false."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from aiohttp import web

from evals.days import load_days
from notifications.domain.plain import plain
from notifications.testing.answers import verdicts_answer
from tests.support.jobs import JOB
from tests.support.web import ASKED, FakeLLM, completion, scripted

FALSE = {plain(one.text) for day in load_days("fluent") for one in day.sentences if not one.true}


def evaluated(llm: FakeLLM) -> tuple[int, str]:
    """The exit code and what is printed; of the days that are written one of each kind."""
    env = {**os.environ, "OPENAI_BASE_URL": f"{llm.url}/v1"}
    asked = [sys.executable, "-m", "evals", "--days", "1"]
    done = subprocess.run(asked, cwd=JOB.parent, env=env, capture_output=True, text=True, timeout=110, check=False)
    return done.returncode, done.stdout


def test_a_judge_who_knows_the_labels_drops_nothing_true_and_stores_nothing_false(llm: FakeLLM) -> None:
    async def knows(who: str) -> web.Response:
        notes = ASKED.get()["messages"][-1]["content"]
        return completion(json.dumps(verdicts_answer(notes, lambda role, text: text in FALSE)))

    llm.look_script = knows
    code, told = evaluated(llm)
    for figure in (
        "true sentences dropped: 0 of 100",
        "inventions stored: 0 of 100",
        "false pushes stored: 0; second looks not believed: 0 of 20",
        "evidence: 100 of 100 true sentences kept",
    ):
        assert figure in told
    assert (code, "every bar holds" in told) == (0, True), told


def test_a_judge_who_lets_all_pass_fails_the_evaluation(llm: FakeLLM) -> None:
    llm.look_script = scripted(
        lambda _: completion(json.dumps(verdicts_answer(ASKED.get()["messages"][-1]["content"])))
    )
    code, told = evaluated(llm)
    assert "inventions stored: 100 of 100" in told
    assert (code, "A BAR DOES NOT HOLD" in told) == (1, True), told
