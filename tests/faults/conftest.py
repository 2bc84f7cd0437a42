"""The fault stage, and the marks that say how much of it `make test` runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.everywhere import EverywhereStage
from tests.faults.stage import FaultStage
from tests.support.jobs import Stage

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.faults)


@pytest.fixture
def faults(stage: Stage) -> Iterator[FaultStage]:
    made = FaultStage(stage)
    yield made
    made.stop()


@pytest.fixture
def staged(faults: FaultStage) -> FaultStage:
    """The same, with the scripts known to Redis: each verb is one message from the start."""
    faults.learn_scripts()
    return faults


@pytest.fixture
def everywhere(stage: Stage) -> Iterator[EverywhereStage]:
    """As `staged`, where each user has a phone, a webhook and a mailbox."""
    made = EverywhereStage(stage)
    made.learn_scripts()
    yield made
    made.stop()
