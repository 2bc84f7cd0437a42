"""deploy/setup.sh against a gcloud with a memory, and every command of docs/deploy.md and docs/runbook.md."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from notifications.adapters.stores.indexes import as_json
from notifications.commands.cli import parse
from tests.support.cloud import KEY, REDIS, ROOT, Cloud, as_typed, problems_of
from tests.support.jobs import Stage, on_firestore, on_sqlite
from tests.support.layouts import OTHER

needs_gcloud = pytest.mark.skipif(not shutil.which("gcloud"), reason="needs the Google Cloud CLI, for its own parser")
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


def test_another_layout_gets_the_indexes_that_its_queries_need(cloud: Cloud) -> None:
    indexes = cloud.file.parent / "indexes.json"
    indexes.write_text(as_json(OTHER.layout))
    for _ in range(2):
        done = cloud.setup(INDEXES=str(indexes))
        assert done.returncode == 0, done.stderr
        made = {
            index["name"].split("/")[-3]: [(one["fieldPath"], one["order"]) for one in index["fields"]]
            for index in cloud.made["indexes"]
        }
        up, down = "ASCENDING", "DESCENDING"
        assert made == {
            "profiles": [("settings.recap_on", up), ("settings.recap_hour", up), ("settings.tz", up)],
            "notes": [("uid", up), ("createdAt", down)],
        }
        assert (len(cloud.made["indexes"]), len(cloud.made["ttls"]), "recaps/date" in cloud.made["fields"]) == (
            2,
            2,
            True,
        )


@pytest.mark.parametrize(
    ("missing", "named", "calls"),
    [
        ("PROJECT", "set PROJECT", False),
        ("REGION", "set REGION", False),
        ("OPENAI_API_KEY", "the secret daily-recap-openai-key has no value yet", True),
    ],
)
def test_what_is_not_set_is_named(cloud: Cloud, missing: str, named: str, calls: bool) -> None:
    done = cloud.setup(**{missing: None})
    assert (done.returncode, named in done.stderr, cloud.state["calls"] > 0) == (1, True, calls)


def test_no_key_is_asked_for_where_the_server_needs_none(cloud: Cloud) -> None:
    _set_up_without_a_key(cloud, "OPENAI_BASE_URL=http://10.0.0.9:8000/v1")


def test_a_key_that_comes_later_is_taken_and_stays(cloud: Cloud) -> None:
    _set_up_without_a_key(cloud, "RECAP_SUMMARIZER=extract")
    for changes in ({}, {"OPENAI_API_KEY": None}):  # once it is stored, it stays
        cloud.again()
        assert cloud.setup(**changes).returncode == 0
        assert cloud.made["secrets"]["daily-recap-openai-key"] == [KEY]
        assert _job_environment(cloud)["OPENAI_API_KEY"] == {
            "secretKeyRef": {"name": "daily-recap-openai-key", "key": "latest"}
        }


def _set_up_without_a_key(cloud: Cloud, setting: str) -> None:
    (cloud.file.parent / "settings.env").write_text(f"{setting}\n")
    done = cloud.setup(OPENAI_API_KEY=None)
    assert done.returncode == 0, done.stderr
    assert list(cloud.made["secrets"]) == ["daily-recap-redis-url"]
    assert "OPENAI_API_KEY" not in _job_environment(cloud)


def test_the_schedule_is_the_commands_own_each_time(cloud: Cloud) -> None:
    assert cloud.setup(SCHEDULE="*/5 * * * *").returncode == 0
    assert cloud.made["minute"]["daily-recap-every-minute"]["schedule"] == "*/5 * * * *"
    cloud.again()
    cloud.resume()
    assert cloud.setup().returncode == 0
    assert cloud.made["minute"]["daily-recap-every-minute"]["schedule"] == "* * * * *"


def _job_environment(cloud: Cloud) -> dict[str, Any]:
    inner = cloud.made["jobs"]["daily-recap"]["spec"]["template"]["spec"]["template"]["spec"]
    return {one["name"]: one.get("valueFrom", one.get("value")) for one in inner["containers"][0]["env"]}


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


@needs_gcloud
def test_the_real_gcloud_knows_every_command_and_flag(cloud: Cloud, tmp_path: Path) -> None:
    channel = "projects/my-app/notificationChannels/1"
    cloud.setup(ALERT_CHANNEL=channel)
    log = cloud.state["log"]
    cloud.again()
    cloud.resume()
    cloud.setup(ALERT_CHANNEL=channel)  # updates
    log += [["builds", "submit", ".", "--tag=x", "--service-account=projects/p/serviceAccounts/b"]]
    typed = {as_typed(call) for call in [*log, *cloud.state["log"]] if call[0] not in ("GET", "PATCH")}
    assert len(typed) > 50
    assert problems_of(typed, tmp_path) == {}


PAGES = ("docs/deploy.md", "docs/runbook.md")
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KUBERNETES = {
    (one["kind"].lower(), one["metadata"]["name"])
    for one in yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text())
}
SERVICES = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
SERVICE = (ROOT / "deploy/systemd/daily-recap.service").read_text()
UNITS = {path.name: path.read_text() for path in (ROOT / "deploy/systemd").iterdir()}


def typed() -> list[str]:
    """Each line of each block, as it is typed."""
    blocks = (block for page in PAGES for block in BLOCK.findall((ROOT / page).read_text()))
    return list(dict.fromkeys(line for block in blocks for line in block.splitlines() if line))


def beginning(*words: str) -> list[str]:
    return [line for line in typed() if line.startswith(words)]


JOB = beginning("python job.py")
GCLOUD = beginning("gcloud ")
KUBECTL = beginning("kubectl ")
DOCKER = beginning("docker ")
MACHINE = beginning("sudo ", "systemctl ", "journalctl ")
START = (
    "deploy/setup.sh",
    "WITHOUT_JOB=1 deploy/setup.sh",
)  # run by their own tests, and by who tries a fresh clone
SHELL = beginning("export ", "git clone ", "cd ", "fuser ", "lsof ")


def test_no_command_is_left_out() -> None:
    known = {*JOB, *GCLOUD, *KUBECTL, *DOCKER, *MACHINE, *START, *SHELL}
    assert set(typed()) == known


@on_sqlite
def test_each_command_of_the_job_runs(stage: Stage) -> None:
    """On a day that was served: it says something, and it is no misuse, no bad setting, no defect."""
    slot = stage.add_user("ann")
    stage.run()
    for line in JOB:
        words = [{"UID": "ann", "DATE": str(slot.recap_date)}.get(one, one) for one in shlex.split(line)[2:]]
        finished = stage.run(*words)
        assert (finished.code in (0, 1), bool(finished.out)) == (True, True), (line, finished.err)
        assert [one["event"] for one in finished.events if one["event"] in ("recap.defect", "recap.trouble")] == []
        assert "Traceback" not in finished.err


@on_firestore
def test_the_pages_query_switches_on_a_share_of_the_users_and_nobody_who_has_chosen(stage: Stage) -> None:
    off = {"time_zone": "UTC", "daily_summary_hour_local": 20}
    for uid, user in {"9": off, "Ann": off, "Bo": off | {"daily_summary_enabled": False}, "Bz": off, "Cy": off}.items():
        stage.world.put_user(uid, user, {}, {})
    [query] = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/deploy.md").read_text(), re.MULTILINE | re.DOTALL)
    project = stage.world.env()["GOOGLE_CLOUD_PROJECT"]
    subprocess.run([sys.executable, "-c", query.replace("my-app", project)], env=stage.env(), check=True, timeout=60)
    switched = {
        uid: (stage.world.user(uid) or {}).get("daily_summary_enabled") for uid in ("9", "Ann", "Bo", "Bz", "Cy")
    }
    assert switched == {"9": None, "Ann": True, "Bo": False, "Bz": True, "Cy": None}


@needs_gcloud
def test_gcloud_knows_each_command(tmp_path: Path) -> None:
    lines = [line.replace("$REGION", "europe-west1").replace("$PROJECT", "my-app") for line in GCLOUD]
    assert problems_of(lines, tmp_path) == {}


@pytest.mark.parametrize("line", [line for line in GCLOUD if "--args=" in line])
def test_what_is_run_in_the_job_is_a_command_of_it(line: str) -> None:
    [arguments] = re.findall(r"--args=(\S+)", line)
    parse(arguments.replace("UID", "ann").replace("DATE", "2026-11-25").split(","))


def _kubectl(words: list[str]) -> bool:
    match words:
        case ["apply", "-f", file]:
            return (ROOT / file).exists()
        case ["create", "job", source, _]:
            return tuple(source.removeprefix("--from=").split("/")) in KUBERNETES
        case ["create", "job", source, _, "--dry-run=client", "--output=json", "|", "jq", change, *rest]:
            path, _, arguments = change.removeprefix(".spec.template.spec.containers[0].").partition("=")
            known = tuple(source.removeprefix("--from=").split("/")) in KUBERNETES and path == "args"
            return known and rest == ["|", "kubectl", "create", "-f", "-"] and parse(json.loads(arguments)) is not None
        case ["get", "cronjob", name]:
            return ("cronjob", name) in KUBERNETES
        case ["logs", job] | ["wait", _, job, _] | ["delete", "job", job]:
            return any(f" {job.removeprefix('job/')}" in line for line in KUBECTL if " create job " in line)
        case ["get", "jobs", "--sort-by=.metadata.creationTimestamp"]:
            return True
    return False


def _docker(words: list[str]) -> bool:
    match words:
        case ["compose", "-f", file, "up", "--detach"]:
            return (ROOT / file).exists()
        case ["compose", "-f", file, "logs", service]:
            return (ROOT / file).exists() and service in SERVICES
        case ["compose", "-f", file, "exec", ("-T" | "recap"), *words]:
            words = words[words.index("/app/job.py") + 1 :]
            arguments = words[: words.index("<")] if "<" in words else words
            return (ROOT / file).exists() and "recap" in SERVICES and parse(arguments) is not None
        case ["build", "--build-arg", pair, "--tag", _, "."]:
            name, _, value = pair.partition("=")
            return f"ARG {name}" in (ROOT / "Dockerfile").read_text() and (ROOT / value).exists()
    return False


def _machine(words: list[str]) -> bool:
    match words:
        case ["sudo", "cp", *files, "/etc/systemd/system/"]:
            return all((ROOT / file).exists() for file in files)
        case ["sudo", "make", "install"] | ["sudo", "git", "clone", _, "/opt/daily-recap"]:
            return True
        case ["sudo", "install", "-m", "600", "/dev/null", file]:
            return file in re.findall(r"^EnvironmentFile=-?(.*)$", "\n".join(UNITS.values()), re.MULTILINE)
        case ["sudo", "/opt/daily-recap/.venv/bin/python", "-m", "pip", "install", package]:
            return f"from {package} import " in (ROOT / "docs/chat_receiver.py").read_text()
        case ["sudo", "systemd-run", *words]:
            at = words.index("/opt/daily-recap/.venv/bin/python")
            properties, arguments = words[:at], words[at + 2 :]
            same = [one.removeprefix("--property=") for one in properties if one.startswith("--property=")]
            held = all(one in SERVICE for one in same if not one.startswith("User="))
            return held and parse(arguments[: arguments.index("<")] if "<" in arguments else arguments) is not None
        case ["sudo", "systemctl", "daemon-reload"]:
            return True
        case ["sudo", "systemctl", "enable", "--now", unit] | ["systemctl", "status", unit]:
            return unit in UNITS
        case ["journalctl", unit, _]:
            return f"{unit.removeprefix('--unit=')}.service" in UNITS
    return False


HOLDS = {**dict.fromkeys(KUBECTL, _kubectl), **dict.fromkeys(DOCKER, _docker), **dict.fromkeys(MACHINE, _machine)}


@pytest.mark.parametrize(("line", "holds"), HOLDS.items())
def test_what_no_engine_can_run_here_names_what_there_is(line: str, holds: Callable[[list[str]], bool]) -> None:
    assert holds(shlex.split(line.removeprefix("kubectl ").removeprefix("docker "))), line


def test_the_page_exports_what_the_setup_needs() -> None:
    """Its own tests run it with these four alone; what else is exported may be left out."""
    exported = {name for line in SHELL for name in re.findall(r"([A-Z_]+)=", line)}
    optional = {"CLOUDSDK_CORE_PROJECT", "ALERT_CHANNEL", "NETWORK", "SUBNET"}
    assert exported - optional == {"PROJECT", "REGION", "REDIS_URL", "OPENAI_API_KEY"}
