"""deploy/setup.sh against a gcloud with a memory: from nothing, and again; an app's own stays as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.cloud import KEY, REDIS, ROOT, Cloud, as_typed, problems_of

OWN_FIELD = {"indexConfig": {"indexes": [{"queryScope": "COLLECTION", "fields": [{"order": "DESCENDING"}]}]}}
APPS_OWN: dict[str, Any] = {
    "apis": ["firestore.googleapis.com"],
    "databases": {"(default)": "eur3"},
    "indexes": [{
        "name": "x/collectionGroups/users/indexes/a", "queryScope": "COLLECTION",
        "fields": [{"fieldPath": "email", "order": "ASCENDING"}],
    }],
    "fields": {"daily_summaries/date": OWN_FIELD, "users/email": OWN_FIELD},
    "ttls": [{"name": "x/collectionGroups/sessions/fields/until", "ttlConfig": {"state": "ACTIVE"}}],
    "secrets": {"stripe-key": ["theirs"]},
    "accounts": {"app@my-app.iam.gserviceaccount.com": {"unknown_for": 0}},
    "bindings": [["projects/my-app", "serviceAccount:app@my-app.iam.gserviceaccount.com", "roles/owner"]],
    "metrics": {"their-metric": {}},
    "policies": [{"displayName": "Theirs"}],
    "minute": {"their-cron": {"schedule": "0 3 * * *", "state": "ENABLED"}},
}  # fmt: skip


def test_from_nothing_and_again_and_no_secret_is_an_argument_or_printed(cloud: Cloud) -> None:
    first = cloud.setup()
    assert first.returncode == 0, first.stderr
    for secret in (KEY, REDIS):
        assert secret not in first.stdout + first.stderr + json.dumps(cloud.state["log"])
    whole = cloud.made
    assert sorted(whole["accounts"]) == [
        "daily-recap-scheduler@my-app.iam.gserviceaccount.com",
        "daily-recap@my-app.iam.gserviceaccount.com",
    ]
    job, scheduler = ("serviceAccount:daily-recap@my-app.iam.gserviceaccount.com",
                      "serviceAccount:daily-recap-scheduler@my-app.iam.gserviceaccount.com")  # fmt: skip
    assert sorted(whole["bindings"]) == [
        ["jobs/daily-recap", scheduler, "roles/run.invoker"],
        ["projects/my-app", job, "roles/datastore.user"],
        ["projects/my-app", job, "roles/firebasecloudmessaging.admin"],
        ["secrets/daily-recap-openai-key", job, "roles/secretmanager.secretAccessor"],
        ["secrets/daily-recap-redis-url", job, "roles/secretmanager.secretAccessor"],
    ]
    assert whole["secrets"] == {"daily-recap-openai-key": [KEY], "daily-recap-redis-url": [REDIS]}
    assert len(whole["indexes"]) == 1
    named = ("daily_summaries/date", "recap_deliveries/date", "recap_deliveries/state", "recap_deliveries/told")
    assert sorted(whole["fields"]) == [*named]
    assert whole["fields"]["recap_deliveries/told"]["indexConfig"] == {"indexes": []}
    assert len(whole["ttls"]) == 2
    assert sorted(whole["metrics"]) == sorted(one.stem for one in (ROOT / "deploy/monitoring/metrics").iterdir())
    assert len(whole["policies"]) == len(list((ROOT / "deploy/monitoring/policies").iterdir()))
    assert {name: one["state"] for name, one in whole["minute"].items()} == {"daily-recap-every-minute": "PAUSED"}
    assert "@" not in json.dumps(whole["jobs"]).replace("daily-recap@my-app", "")
    cloud.again()
    assert cloud.setup(REDIS_URL=None, OPENAI_API_KEY=None).returncode == 0
    assert cloud.made == whole


def test_a_secret_without_a_value_is_asked_for(cloud: Cloud) -> None:
    done = cloud.setup(OPENAI_API_KEY=None)
    assert done.returncode == 1
    assert "the secret daily-recap-openai-key has no value yet" in done.stderr


CHANNEL = "projects/my-app/notificationChannels/1"


@pytest.mark.parametrize("missing", ["PROJECT", "REGION"])
def test_what_is_not_set_is_named(cloud: Cloud, missing: str) -> None:
    done = cloud.setup(**{missing: None})
    assert done.returncode == 1
    assert f"set {missing}" in done.stderr
    assert cloud.state["calls"] == 0


def test_nothing_of_an_existing_app_is_touched(cloud: Cloud) -> None:
    cloud.begin(APPS_OWN)
    done = cloud.setup()
    assert done.returncode == 0, done.stderr
    found = cloud.made
    for kind in ("databases", "fields", "secrets", "accounts", "metrics", "minute"):
        for name, what in APPS_OWN[kind].items():
            assert found[kind][name] == what, (kind, name)
    for kind in ("indexes", "ttls", "bindings", "policies"):
        for what in APPS_OWN[kind]:
            assert what in found[kind], kind
    assert "daily_summaries.date has index settings of the app's own" in done.stderr
    assert not [call for call in cloud.state["log"] if "delete" in call]


@pytest.mark.skipif(not shutil.which("gcloud"), reason="needs the Google Cloud CLI, for its own parser")
def test_the_real_gcloud_knows_every_command_and_flag(cloud: Cloud, tmp_path: Path) -> None:
    cloud.setup(ALERT_CHANNEL=CHANNEL)
    log = cloud.state["log"]
    cloud.again()
    cloud.resume()
    cloud.setup(ALERT_CHANNEL=CHANNEL)  # updates
    log += [["builds", "submit", ".", "--tag=x", "--service-account=projects/p/serviceAccounts/b"]]
    typed = {as_typed(call) for call in [*log, *cloud.state["log"]] if call[0] not in ("GET", "PATCH")}
    assert len(typed) > 50
    assert problems_of(typed, tmp_path) == {}
