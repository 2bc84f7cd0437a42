"""What watches a run from outside: a heartbeat's receiver, and metrics and traces by the real SDK and protocol."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from notifications.settings import Settings
from tests.support.jobs import Finished, Stage, on_sqlite
from tests.support.watchers import Beats, Collector, attributes_of
from tests.support.web import llm_error, scripted

pytestmark = on_sqlite  # where the users are makes no difference
SECRET = "/ping/0b1c-secret"


@pytest.fixture
def beats(stage: Stage) -> Iterator[Beats]:
    server = Beats()
    stage.settings["RECAP_HEARTBEAT_URL"] = f"{server.url}{SECRET}"
    yield server
    server.stop()


def test_a_tick_tells_its_start_its_code_and_its_summary_and_a_command_nothing(stage: Stage, beats: Beats) -> None:
    stage.add_user("ann")
    for command in (("--dry-run",), ("--user", "ann"), ("audit",), ("inspect",)):
        stage.run(*command)
    assert beats.told == []  # no scheduler starts these
    stage.add_user("bob")
    finished = stage.run()
    assert (finished.code, "1 sent" in finished.out) == (0, True)
    assert beats.told == [(f"{SECRET}/start", ""), (f"{SECRET}/0", finished.out.strip())]
    stage.nothing_is_due()
    stage.settings["RECAP_HEARTBEAT_URL"] += "/?create=1"  # a query stays behind the path
    idle = stage.run()
    assert "nothing to do" in idle.out
    assert beats.told[2:] == [(f"{SECRET}/start?create=1", ""), (f"{SECRET}/0?create=1", idle.out.strip())]
    assert beats.runs[0] == beats.runs[1] != beats.runs[2] == beats.runs[3]


@pytest.mark.parametrize("code", [1, 3, 4, 5])
def test_the_exit_code_is_told(stage: Stage, beats: Beats, code: int) -> None:
    """An unreadable ledger, a refused key, a server that is away, a day that was lost."""
    slot = stage.add_user("ann")
    changes = {}
    if code == 1:
        day = slot.recap_date.isoformat()
        stage.world.put_ledger("ann", day, {"date": day, "state": "?"})
    elif code == 3:
        stage.llm.script = scripted(lambda _: llm_error(401, "invalid_api_key"))
    elif code == 4:
        changes = {"REDIS_URL": "redis://127.0.0.1:1/0"}
    else:
        late = max(1.0, (datetime.now(UTC) - slot.at).total_seconds() - 1)
        changes = {"RECAP_CATCH_UP_SECONDS": str(late), "RECAP_GRACE_SECONDS": "3600", "RECAP_FALLBACK": "none"}
    finished = stage.run(**changes)
    assert [path for path, _ in beats.told] == [f"{SECRET}/start", f"{SECRET}/{code}"], finished.err
    assert (finished.code, bool(beats.told[1][1])) == (code, True)
    if code == 5:
        assert (finished.event("tick.finished")["missed"], "1 missed" in finished.out) == (1, True)
        assert stage.run(**changes).code == 0  # told once


def test_a_server_that_hangs_holds_up_no_run(stage: Stage, beats: Beats) -> None:
    def seconds() -> float:
        begun = time.monotonic()
        assert stage.run().code == 0
        return time.monotonic() - begun

    plain = seconds()
    beats.told.clear()
    beats.hangs = ("start", "0")
    assert seconds() < plain + 3 + 5  # three seconds, and what a busy machine takes more than before
    assert [path for path, _ in beats.told] == [f"{SECRET}/start", f"{SECRET}/0"]


@pytest.mark.parametrize("status", [404, 500, 302, None])
def test_a_refusal_is_told_and_fails_nothing(stage: Stage, beats: Beats, status: int | None) -> None:
    """None: nobody is at the address."""
    beats.status = status or 200
    finished = stage.run(**({} if status else {"RECAP_HEARTBEAT_URL": f"http://127.0.0.1:1{SECRET}"}))
    assert finished.code == 0
    reason = f"HTTPError {status}" if status else "URLError"
    assert finished.event("heartbeat.failed")["reason"] == f"RECAP_HEARTBEAT_URL (127.0.0.1): {reason}."
    assert SECRET not in finished.err + finished.out
    assert len(beats.told) == (2 if status else 0)  # a redirect is not followed


EVENTS = Path(__file__).parents[2] / "docs/events.md"
MODEL = Settings.openai_model


@pytest.fixture
def collector(stage: Stage) -> Iterator[Collector]:
    server = Collector()
    stage.settings["OTEL_EXPORTER_OTLP_ENDPOINT"] = server.url
    yield server
    server.stop()


def named(heading: str) -> set[str]:
    """The first column of a table of docs/events.md."""
    text = EVENTS.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return {name.replace("MODEL", MODEL) for name in re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)}


def test_each_metric_and_each_span_arrives_once_below_its_turn(stage: Stage, collector: Collector) -> None:
    for uid in ("ann", "bob"):
        stage.add_user(uid, devices=2)
    stage.add_user("eve", talks={})
    finished = stage.run(OTEL_RESOURCE_ATTRIBUTES="service.instance.id=one")
    told, points = finished.event("tick.finished"), collector.points
    assert set(points) == named("Metrics")
    assert {(one["recap.ending"], value) for one, value in points["recap.users"]} >= {("sent", 2), ("skipped", 1)}
    assert sum(value for _, value in points["recap.users"]) == told["due"] == 3
    assert [value for _, value in points["recap.pushes"]] == [told["pushes"]] == [4]
    targets = [(one["recap.channel"], one["recap.result"], value) for one, value in points["recap.targets"]]
    assert targets == [("fcm", "accepted", 4)]
    documents = {one["recap.operation"]: value for one, value in points["recap.documents"]}
    assert documents == {"read": told["documents_read"], "write": told["documents_written"]}
    tokens = {one["gen_ai.token.type"]: value for one, value in points["gen_ai.client.token.usage"]}
    assert tokens == {"input": 4, "output": 4}  # the writing and the second look of two users
    assert [value for _, value in points["gen_ai.client.operation.duration"]] == [4]
    assert sum(map(len, points.values())) <= 50

    names = {span.span_id: span.name for span in collector.spans} | {b"": ""}
    assert Counter((span.name, names[span.parent_span_id]) for span in collector.spans) == {
        ("recap tick", ""): 1,
        ("recap user", "recap tick"): 3,
        (f"chat {MODEL}", "recap user"): 4,
        ("recap push", "recap user"): 2,
    }
    assert {span.name for span in collector.spans} == named("Traces")
    assert len({span.trace_id for span in collector.spans}) == 1
    asked = next(attributes_of(span) for span in collector.spans if span.name.startswith("chat"))
    assert (asked["gen_ai.request.model"], asked["gen_ai.usage.input_tokens"] > 0) == (MODEL, True)
    services = {(one["service.name"], one["service.instance.id"]) for one in collector.resources}
    assert services == {("daily-recap", "one")}

    collector.requests.clear()
    for command in (("audit",), ("why", "ann"), ("--dry-run",), ()):
        stage.nothing_is_due()
        stage.run(*command)
    assert collector.requests == {}  # a command sends nothing, and neither does an idle tick


def test_nobody_is_named_and_nothing_is_quoted(stage: Stage, collector: Collector) -> None:
    """Not where all goes well, and not where the LLM refuses."""
    stage.add_user("ann")
    stage.llm.script = scripted(lambda _: llm_error(503, "overloaded"))
    stage.run()
    stage.llm.script = None
    stage.add_user("bob")
    stage.run("--user", "bob", OTEL_RESOURCE_ATTRIBUTES="service.name=theirs")
    sent = f"{collector.spans}{collector.metrics}{collector.resources}"
    for private in ("ann", "bob", "garden", "token-", "test-key"):
        assert not re.search(rf"(?<![a-z]){private}", sent), private
    failed = [attributes_of(span)["error.type"] for span in collector.spans if "error.type" in str(span)]
    assert set(failed) == {"ProviderFault"}
    assert {one["service.name"] for one in collector.resources} == {"daily-recap", "theirs"}


def test_a_collector_that_hangs_costs_a_second(stage: Stage, collector: Collector) -> None:
    """Counted from the run's own last word to the process's end, beside what that takes where the collector answers."""
    stage.preloaded = False  # its imports and its end are part of it
    hole = Collector(hangs=True)
    stage.add_user("ann")
    finished, usual = _run_and_end(stage)
    assert finished.named("telemetry.failed") == []
    stage.add_user("bob")
    stage.redis.ask("FLUSHALL")  # the shard was served
    finished, seconds = _run_and_end(stage, OTEL_EXPORTER_OTLP_ENDPOINT=hole.url)
    assert seconds < 2 * usual + 1 + 3  # unbounded it is 7 to 10 more
    assert "the collector did not take all of it" in finished.event("telemetry.failed")["reason"]
    assert [line for line in finished.err.splitlines() if not line.startswith("{")] == []
    hole.stop()


def _run_and_end(stage: Stage, **env: str) -> tuple[Finished, float]:
    """A run that sends one recap, and the seconds from that to the process's end."""
    finished = stage.run(**env)
    ended = time.time()
    assert (finished.code, finished.event("tick.finished")["sent"]) == (0, 1), finished.err
    return finished, ended - datetime.fromisoformat(finished.event("recap.sent")["timestamp"]).timestamp()


MISSING = """
import sys
class Away:
    def find_spec(self, name, *_):
        if name == 'opentelemetry.sdk':
            raise ModuleNotFoundError('gone', name=name)
sys.meta_path.insert(0, Away())
"""


def test_what_is_not_installed_is_told_and_fails_nothing(stage: Stage, tmp_path: Path) -> None:
    stage.preloaded = False
    (tmp_path / "sitecustomize.py").write_text(MISSING)
    stage.add_user("ann")
    finished = stage.run(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", PYTHONPATH=str(tmp_path))
    assert (finished.code, finished.event("tick.finished")["sent"]) == (0, 1), finished.err
    assert finished.event("telemetry.failed")["reason"] == (
        "opentelemetry.sdk is not installed; install requirements-otel.txt, or unset OTEL_EXPORTER_OTLP_ENDPOINT."
    )


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "2"}, "OpenTelemetry refuses a setting (ValueError)"),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "0"}, "OpenTelemetry refuses a setting (ValueError)"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, "the collector did not take all of it"),
        ({}, "check the address, its headers"),  # it answers 401
    ],
)
def test_trouble_with_the_collector_stops_nobody(
    stage: Stage, collector: Collector, env: dict[str, str], reason: str
) -> None:
    collector.status = 200 if env else 401
    stage.add_user("ann")
    finished = stage.run(**env)
    assert (finished.code, finished.event("tick.finished")["sent"]) == (0, 1), finished.err
    assert reason in finished.event("telemetry.failed")["reason"]
    assert "Traceback" not in finished.err
