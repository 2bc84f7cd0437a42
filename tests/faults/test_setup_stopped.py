"""deploy/setup.sh stopped at each of its calls that change something, and run again: the same end."""

from __future__ import annotations

import pytest

from tests.support.cloud import Cloud

PARTS = 40
SHORT = ((True, 30),)  # what `make test` runs of it
READS = {"describe", "list", "access", "get-iam-policy", "print-access-token", "GET"}  # stopped there is stopped before


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("lost", "part"),
    [
        pytest.param(lost, part, marks=pytest.mark.short if (lost, part) in SHORT else ())
        for lost in (False, True)
        for part in range(PARTS)
    ],
)
def test_from_each_half_way_point_the_same_end(cloud: Cloud, lost: bool, part: int) -> None:
    """The k-th change fails, before it did anything or after it did all of it; then the same command again."""
    cloud.setup()
    whole = cloud.made
    changes = [number for number, call in enumerate(cloud.state["log"]) if not READS.intersection(call)]
    assert len(changes) > 40
    for k in changes[part::PARTS]:
        cloud.begin({}, fail_at=k, lost=lost)
        stopped = cloud.setup()
        # what waits for something new to be known everywhere tries again, whatever the answer was
        assert stopped.returncode != 0 or cloud.made == whole, (k, cloud.state["log"][k], stopped.stderr)
        cloud.again()
        finished = cloud.setup()
        assert finished.returncode == 0, (k, finished.stderr)
        assert cloud.made == whole, (k, cloud.state["log"])
