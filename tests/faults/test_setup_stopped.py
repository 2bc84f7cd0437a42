"""deploy/setup.sh stopped at each of its calls, and run again: the same end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cloud import Cloud

PARTS = 10
SHORT = (3, 8)  # of the parts: what `make test` runs of it


@pytest.mark.timeout(900)
@pytest.mark.parametrize("lost", [False, True], ids=["refused", "lost"])
@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=pytest.mark.short if part in SHORT else ()) for part in range(PARTS)]
)
def test_from_each_half_way_point_the_same_end(tmp_path: Path, lost: bool, part: int) -> None:
    """The k-th call fails, before it did anything or after it did all of it; then the same command again."""
    cloud = Cloud(tmp_path, {})
    try:
        sweep(cloud, lost, part)
    finally:
        cloud.admin.stop()


def sweep(cloud: Cloud, lost: bool, part: int) -> None:
    cloud.setup()
    whole, calls = cloud.made, cloud.state["calls"]
    assert calls > 50
    for k in range(part, calls, PARTS):
        cloud.begin({}, fail_at=k, lost=lost)
        stopped = cloud.setup()
        # a question that is answered by "there is none" may lose that answer, and is told so all the same
        assert stopped.returncode != 0 or (lost and cloud.made == whole), (k, cloud.state["log"][k], stopped.stderr)
        cloud.again()
        finished = cloud.setup()
        assert finished.returncode == 0, (k, finished.stderr)
        assert cloud.made == whole, (k, cloud.state["log"])
