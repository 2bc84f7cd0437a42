"""Each file of deploy/ is held to its schema, each variable in it to the settings, each alert to its page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import promql_parser
import pytest
import yaml
from compose_spec import PyCompose
from google.cloud.logging_v2.types import LogMetric
from google.cloud.monitoring_v3.types import AlertPolicy
from google.protobuf.json_format import ParseDict

from notifications.settings import load

ROOT = Path(__file__).parents[2]
DEPLOY, MONITORING = ROOT / "deploy", ROOT / "deploy/monitoring"
METRICS, POLICIES = sorted((MONITORING / "metrics").iterdir()), sorted((MONITORING / "policies").iterdir())
KUBERNETES = ("1.30", "1.37")  # the oldest that is looked at, and the newest that the package knows
RULES = yaml.safe_load((MONITORING / "prometheus-rules.yaml").read_text())["groups"][0]["rules"]
EVENTS, RUNBOOK = (ROOT / "docs/events.md").read_text(), (ROOT / "docs/runbook.md").read_text()
GCLOUD_LIB = Path(shutil.which("gcloud") or "/none/bin/gcloud").resolve().parents[1] / "lib"


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(version: str) -> None:
    found = documents("kubernetes.yaml")
    assert [one["kind"] for one in found] == ["ServiceAccount", "Secret", "CronJob"]
    for one in found:
        kubernetes_validate.validate(one, version, strict=True)


def test_kubernetes_would_notice() -> None:
    cron = documents("kubernetes.yaml")[2]
    cron["spec"]["concurencyPolicy"] = "Allow"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(cron, KUBERNETES[0], strict=True)


def test_the_pod_is_locked_down_as_the_readme_says() -> None:
    pod = documents("kubernetes.yaml")[2]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    [stop] = [one["value"] for one in container["env"] if one["name"] == "RECAP_STOP_SECONDS"]
    assert int(stop) == pod["terminationGracePeriodSeconds"]


def test_compose_is_what_its_own_schema_takes() -> None:
    found = PyCompose.from_yaml((DEPLOY / "compose.yaml").read_text())
    assert sorted(found.service_names()) == ["firestore", "llm", "recap", "valkey"]
    with pytest.raises(ValueError, match="stop_grace"):
        PyCompose.from_yaml((DEPLOY / "compose.yaml").read_text().replace("stop_grace_period: 40s", "stop_grace: 4"))


@pytest.mark.skipif(not GCLOUD_LIB.exists(), reason="needs the Google Cloud CLI, for its own messages")
def test_cloud_run_knows_every_field() -> None:
    """By the message that `gcloud run jobs replace` reads the file into."""
    script = (
        "import json, sys\n"
        "from apitools.base.py import encoding\n"
        "from googlecloudsdk.generated_clients.apis.run.v1 import run_v1_messages as messages\n"
        "found = encoding.PyValueToMessage(messages.Job, json.load(sys.stdin))\n"
        "print(json.dumps([names for _, names in encoding.UnrecognizedFieldIter(found)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(documents("cloud-run-job.yaml")[0]),
        env={"PYTHONPATH": f"{GCLOUD_LIB / 'third_party'}:{GCLOUD_LIB}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("path", METRICS, ids=lambda path: path.stem)
def test_a_metric_counts_events_that_there_are(path: Path) -> None:
    found = yaml.safe_load(path.read_text())
    ParseDict(found, LogMetric.pb(LogMetric()))
    for key in re.findall(r"jsonPayload\.(\w+)[>=]", found["filter"]):
        assert key == "event" or f"`{key}`" in EVENTS, key
    named = re.findall(r'"([a-z_]+\.[a-z_]+)"', found["filter"])
    assert named
    for event in named:
        assert f"| `{event}` |" in EVENTS, event


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_a_policy_has_its_metric_and_its_page(path: Path) -> None:
    found = yaml.safe_load(path.read_text())
    ParseDict(found, AlertPolicy.pb(AlertPolicy()))
    [condition] = found["conditions"]
    told = condition.get("conditionThreshold") or condition["conditionAbsent"]
    [metric] = re.findall(r"logging\.googleapis\.com/user/([\w-]+)", told["filter"])
    assert metric == path.stem
    assert metric in {one.stem for one in METRICS}
    assert page_of(found["documentation"]["content"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_asks_for_metrics_that_there_are(rule: dict[str, Any]) -> None:
    promql_parser.parse(rule["expr"])
    for name in re.findall(r"recap_(\w+?)_total", rule["expr"]):
        assert f"| `recap.{name}` | counter |" in EVENTS, name
    for ending in re.findall(r'recap_ending=~"([^"]+)"', rule["expr"]):
        assert set(ending.split("|")) <= set(re.findall(r"`(\w+)`", EVENTS))
    assert page_of(rule["annotations"]["runbook"])


def page_of(told: str) -> bool:
    file, _, heading = told.partition(", ")
    return file == "docs/runbook.md" and f"\n## {heading}\n" in RUNBOOK


def test_every_page_of_the_runbook_is_some_alerts_of_both_kinds() -> None:
    told = [yaml.safe_load(path.read_text())["documentation"]["content"] for path in POLICIES]
    pages = re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)
    assert set(pages) == {one.partition(", ")[2] for one in told}
    assert set(pages) == {rule["annotations"]["runbook"].partition(", ")[2] for rule in RULES}
    for page in pages:
        text = RUNBOOK.partition(f"\n## {page}\n")[2].partition("\n## ")[0]
        assert all(f"**What {said}" in text for said in ("it means.", "to type.", "not to do.")), page


def test_the_runbooks_index_names_pages_that_are_there() -> None:
    pages = re.findall(r'^\| .+ \| "(.+)" \|$', RUNBOOK, re.MULTILINE)
    assert len(pages) > 10
    assert [page for page in pages if not re.search(rf"^##+ {re.escape(page)}$", RUNBOOK, re.MULTILINE)] == []


def variables() -> Iterator[tuple[str, str, str]]:
    """Each variable that a file sets for the job: file, name, value."""
    [job] = documents("cloud-run-job.yaml")
    [container] = job["spec"]["template"]["spec"]["template"]["spec"]["containers"]
    for one in container["env"]:
        yield "cloud-run-job.yaml", one["name"], one.get("value", "")
    _, secret, cron = documents("kubernetes.yaml")
    for name, value in secret["stringData"].items():
        yield "kubernetes.yaml", name, value
    for one in cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["env"]:
        yield "kubernetes.yaml", one["name"], one["value"]
    for name, value in documents("compose.yaml")[0]["services"]["recap"]["environment"].items():
        yield "compose.yaml", name, re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
    unit = (DEPLOY / "systemd/daily-recap.service").read_text()
    for pair in re.findall(r"^Environment=(.+)$", unit, re.MULTILINE)[0].split():
        name, _, value = pair.partition("=")
        yield "daily-recap.service", name, value


def test_every_variable_is_a_setting() -> None:
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE))
    told = {name for _, name, _ in variables()}
    assert told <= listed
    for page in ("docs/deploy.md", "docs/runbook.md", "README.md", "docs/events.md"):
        text = (ROOT / page).read_text()
        named = set(re.findall(r"\b((?:RECAP|OPENAI|FIRESTORE|FCM|OTEL)_[A-Z_]*[A-Z])\b", text))
        assert {name for name in named if not name.startswith(("RECAP_PRICE", "OTEL_EXPORTER_OTLP_M"))} <= listed, page


@pytest.mark.parametrize("file", ["cloud-run-job.yaml", "kubernetes.yaml", "compose.yaml", "daily-recap.service"])
def test_what_a_file_sets_is_accepted_together(file: str) -> None:
    told = {name: value.replace("KEY", "k") for where, name, value in variables() if where == file}
    secret = {"REDIS_URL": "redis://r", "OPENAI_API_KEY": "k"} if file == "cloud-run-job.yaml" else {}
    filled = {name: {"@PROJECT@": "p", "@DATABASE@": "(default)"}.get(value, value) for name, value in told.items()}
    load(filled | secret)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
def test_systemd_knows_every_line(tmp_path: Path) -> None:
    for path in (DEPLOY / "systemd").iterdir():
        text = path.read_text().replace("/opt/daily-recap/.venv/bin/python", sys.executable)
        (tmp_path / path.name).write_text(text.replace("/opt/daily-recap", str(ROOT)))
    units = [str(tmp_path / path.name) for path in (DEPLOY / "systemd").iterdir()]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "daily-recap" in line]) == (0, [])


def test_the_chat_receiver_listens_where_the_pages_say_and_has_none_of_the_jobs_keys() -> None:
    unit = (DEPLOY / "systemd/daily-recap-chat.service").read_text()
    [port] = re.findall(r"^Environment=PORT=(\d+)$", unit, re.MULTILINE)
    for page in ("docs/channels.md", "docs/deploy.md"):
        assert f"RECAP_WEBHOOK_URL=http://127.0.0.1:{port}/" in (ROOT / page).read_text(), page
    assert re.findall(r"^EnvironmentFile=(.+)$", unit, re.MULTILINE) == ["/etc/daily-recap-chat.env"]
    assert "StateDirectory" not in unit
    assert "ExecStart=/opt/daily-recap/.venv/bin/python /opt/daily-recap/docs/chat_receiver.py\n" in unit


def test_the_image_is_built_from_what_is_pinned() -> None:
    docker = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", docker, re.MULTILINE) == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    assert "USER 10001\n" in docker
    assert 'ENTRYPOINT ["python", "/app/job.py"]' in docker
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for copied in ("requirements.txt", "requirements-otel.txt", "job.py", "notifications"):
        assert f"!{copied}" in ignored
