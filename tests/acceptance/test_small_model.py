"""A real small model behind a real server: where it is installed (make eval installs it), its recap ends safe."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evals.llms import small_model, start_small_model
from tests.support.jobs import Stage, on_sqlite

WEIGHTS = small_model()
CONTEXT = 2_048  # tokens: it often talks until its room ends


@pytest.fixture
def url() -> Iterator[str]:
    if WEIGHTS is None:
        pytest.skip("needs the small model: make eval installs it")
    server = start_small_model(WEIGHTS, 2, CONTEXT)
    yield f"{server.listening_address}/v1"
    del server


@on_sqlite
@pytest.mark.timeout(300)
def test_whatever_a_real_small_model_answers_the_recap_is_stored_and_pushed_once(stage: Stage, url: str) -> None:
    stage.add_user("ann")
    finished = stage.end(stage.start(OPENAI_BASE_URL=url), 280)
    assert finished.code == 0, finished.err
    [summary] = stage.world.summaries("ann").values()
    assert summary["metadata"]["source"] in ("llm", "extract")
    assert 1 <= summary["metadata"]["calls"] <= 4
    assert summary["coverage"] in ({"whole": 2, "part": 0, "extract": 0}, {"whole": 0, "part": 0, "extract": 2})
    assert stage.fcm.accepted == {"token-ann-0": 1}
