"""deploy/setup.sh stopped at each of its calls that change something, and run again with something that changed."""

from __future__ import annotations

import pytest

from tests.support.cloud import KEY, REDIS, Cloud

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


CHANNEL = "projects/my-app/notificationChannels/1"


def test_a_secret_that_changed_is_a_new_version(cloud: Cloud) -> None:
    cloud.setup()
    cloud.again()
    cloud.setup(OPENAI_API_KEY="sk-new")
    assert cloud.state["secrets"]["daily-recap-openai-key"] == [KEY, "sk-new"]
    assert cloud.state["secrets"]["daily-recap-redis-url"] == [REDIS]


def test_what_goes_on_goes_on_and_what_is_paused_stays_so(cloud: Cloud) -> None:
    first = cloud.setup()
    assert "the minute hand is paused; to start it" in first.stderr
    cloud.again()
    cloud.resume()
    second = cloud.setup()
    assert second.returncode == 0, second.stderr
    assert "paused" not in second.stderr
    assert cloud.state["minute"]["daily-recap-every-minute"]["state"] == "ENABLED"


def test_an_alert_channel_may_come_later(cloud: Cloud) -> None:
    cloud.setup()
    cloud.again()
    assert cloud.setup(ALERT_CHANNEL=CHANNEL).returncode == 0
    assert {tuple(one["notificationChannels"]) for one in cloud.state["policies"]} == {(CHANNEL,)}


def test_further_settings_are_put_into_the_job_each_time(cloud: Cloud) -> None:
    file = cloud.file.parent / "settings.env"
    file.write_text('# ours\nRECAP_DAILY_BUDGET_USD=12.5\nOPENAI_SERVICE_TIER=flex\nOPENAI_MODEL=a "b": {c}\n')
    for _ in range(2):
        assert cloud.setup().returncode == 0
        [container] = cloud.state["jobs"]["daily-recap"]["spec"]["template"]["spec"]["template"]["spec"]["containers"]
        told = {one["name"]: one.get("value") for one in container["env"]}
        assert told["RECAP_DAILY_BUDGET_USD"] == "12.5"
        assert told["OPENAI_MODEL"] == 'a "b": {c}'
        assert len(told) == len(container["env"])
        cloud.again()
    file.write_text("RECAP_DAILY_BUDGET_USD: 12\n")
    done = cloud.setup()
    assert done.returncode != 0
    assert "has a line that is no NAME=value" in done.stderr


def test_without_the_job_only_the_databases_part_is_made(cloud: Cloud) -> None:
    done = cloud.setup(WITHOUT_JOB="1", REDIS_URL=None, OPENAI_API_KEY=None, IMAGE=None)
    assert done.returncode == 0, done.stderr
    made = cloud.made
    assert (made["jobs"], made["minute"], made["secrets"], made["policies"]) == ({}, {}, {}, [])
    assert (len(made["indexes"]), len(made["fields"]), len(made["ttls"])) == (1, 4, 2)
    assert list(made["accounts"]) == ["daily-recap@my-app.iam.gserviceaccount.com"]
