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


def test_a_tick_tells_its_start_its_code_and_its_summary(stage: Stage, beats: Beats) -> None:
    stage.add_user("ann")
    finished = stage.run()
    assert finished.code == 0
    assert beats.told == [(f"{SECRET}/start", ""), (f"{SECRET}/0", finished.out.strip())]
    assert "1 sent" in finished.out
    stage.run()
    assert len(beats.runs) == 4
    assert beats.runs[0] == beats.runs[1] != beats.runs[2] == beats.runs[3]


def test_an_idle_tick_tells_it_too(stage: Stage, beats: Beats) -> None:
    stage.run()
    stage.nothing_is_due()
    beats.told.clear()
    finished = stage.run()
    assert beats.told == [(f"{SECRET}/start", ""), (f"{SECRET}/0", finished.out.strip())]
    assert "nothing to do" in finished.out


def test_a_query_stays_behind_the_path(stage: Stage, beats: Beats) -> None:
    stage.settings["RECAP_HEARTBEAT_URL"] += "/?create=1"
    stage.run()
    assert [path for path, _ in beats.told] == [f"{SECRET}/start?create=1", f"{SECRET}/0?create=1"]


def test_a_refused_key_is_3(stage: Stage, beats: Beats) -> None:
    stage.add_user("ann")
    stage.llm.script = scripted(lambda _: llm_error(401, "invalid_api_key"))
    assert _code(stage, beats) == 3


def test_a_server_that_is_away_is_4(stage: Stage, beats: Beats) -> None:
    assert _code(stage, beats, REDIS_URL="redis://127.0.0.1:1/0") == 4


def test_an_unreadable_ledger_is_1(stage: Stage, beats: Beats) -> None:
    slot = stage.add_user("ann")
    stage.world.put_ledger("ann", slot.recap_date.isoformat(), {"date": slot.recap_date.isoformat(), "state": "?"})
    assert _code(stage, beats) == 1


def test_a_day_that_was_lost_is_5(stage: Stage, beats: Beats) -> None:
    slot = stage.add_user("ann")
    late = (datetime.now(UTC) - slot.at).total_seconds()
    gone = {"RECAP_CATCH_UP_SECONDS": str(max(1.0, late - 1)), "RECAP_GRACE_SECONDS": "3600", "RECAP_FALLBACK": "none"}
    assert _code(stage, beats, **gone) == 5


def _code(stage: Stage, beats: Beats, **changes: str) -> int:
    """The exit code of a tick, which is also told."""
    finished = stage.run(**changes)
    assert [path for path, _ in beats.told] == [f"{SECRET}/start", f"{SECRET}/{finished.code}"], finished.err
    assert beats.told[1][1]
    return finished.code


@pytest.mark.parametrize("arguments", [("--dry-run",), ("--user", "ann"), ("audit",), ("inspect",)])
def test_what_no_scheduler_starts_has_none(stage: Stage, beats: Beats, arguments: tuple[str, ...]) -> None:
    stage.add_user("ann")
    stage.run(*arguments)
    assert beats.told == []


@pytest.mark.parametrize("hangs", [("start",), ("0",), ("start", "0")])
def test_a_server_that_hangs_holds_up_no_run(stage: Stage, beats: Beats, hangs: tuple[str, ...]) -> None:
    stage.run()
    plain = _seconds(stage)
    beats.told.clear()
    beats.hangs = hangs
    assert _seconds(stage) < plain + 3 + 5  # three seconds, and what a busy machine takes more than before
    assert [path for path, _ in beats.told] == [f"{SECRET}/start", f"{SECRET}/0"]


def _seconds(stage: Stage) -> float:
    begun = time.monotonic()
    assert stage.run().code == 0
    return time.monotonic() - begun


@pytest.mark.parametrize("status", [404, 500, 302])
def test_a_refusal_is_told_and_fails_nothing(stage: Stage, beats: Beats, status: int) -> None:
    beats.status = status
    finished = stage.run()
    assert finished.code == 0
    assert finished.event("heartbeat.failed")["reason"] == f"RECAP_HEARTBEAT_URL (127.0.0.1): HTTPError {status}."
    assert SECRET not in finished.err + finished.out
    assert len(beats.told) == 2  # a redirect is not followed


def test_a_server_that_is_away_fails_nothing(stage: Stage) -> None:
    finished = stage.run(RECAP_HEARTBEAT_URL=f"http://127.0.0.1:1{SECRET}")
    assert finished.code == 0
    assert finished.event("heartbeat.failed")["reason"] == "RECAP_HEARTBEAT_URL (127.0.0.1): URLError."
    assert SECRET not in finished.err


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


def test_each_metric_and_each_span_arrives_once(stage: Stage, collector: Collector) -> None:
    for uid in ("ann", "bob"):
        stage.add_user(uid, devices=2)
    stage.add_user("eve", talks={})
    finished = stage.run()
    told = finished.event("tick.finished")
    points = collector.points
    assert set(points) == named("Metrics")
    assert {(one["recap.ending"], value) for one, value in points["recap.users"]} >= {("sent", 2), ("skipped", 1)}
    assert sum(value for _, value in points["recap.users"]) == told["due"] == 3
    assert [value for _, value in points["recap.pushes"]] == [told["pushes"]] == [4]
    documents = {one["recap.operation"]: value for one, value in points["recap.documents"]}
    assert documents == {"read": told["documents_read"], "write": told["documents_written"]}
    tokens = {one["gen_ai.token.type"]: value for one, value in points["gen_ai.client.token.usage"]}
    assert tokens == {"input": 4, "output": 4}  # the writing and the second look of two users
    assert [value for _, value in points["gen_ai.client.operation.duration"]] == [4]
    assert sum(map(len, points.values())) <= 50
    assert Counter(span.name for span in collector.spans) == {
        "recap tick": 1,
        "recap user": 3,
        f"chat {MODEL}": 4,
        "recap push": 2,
    }
    assert {span.name for span in collector.spans} == named("Traces")
    assert {one["service.name"] for one in collector.resources} == {"daily-recap"}


def test_a_users_spans_are_below_their_turn(stage: Stage, collector: Collector) -> None:
    for uid in ("ann", "bob"):
        stage.add_user(uid)
    stage.run()
    by_id = {span.span_id: span for span in collector.spans}
    above = Counter(
        (span.name, by_id[span.parent_span_id].name if span.parent_span_id else "") for span in collector.spans
    )
    assert above == {
        ("recap tick", ""): 1,
        ("recap user", "recap tick"): 2,
        (f"chat {MODEL}", "recap user"): 4,
        ("recap push", "recap user"): 2,
    }
    assert len({span.trace_id for span in collector.spans}) == 1
    [asked, *_] = [attributes_of(span) for span in collector.spans if span.name.startswith("chat")]
    assert asked["gen_ai.request.model"] == MODEL
    assert asked["gen_ai.usage.input_tokens"] > 0


def test_nobody_is_named_and_nothing_is_quoted(stage: Stage, collector: Collector) -> None:
    """Not where all goes well, and not where the LLM refuses."""
    stage.add_user("ann")
    stage.llm.script = scripted(lambda _: llm_error(503, "overloaded"))
    stage.run()
    stage.llm.script = None
    stage.add_user("bob")
    stage.run("--user", "bob")
    sent = f"{collector.spans}{collector.metrics}{collector.resources}"
    for private in ("ann", "bob", "garden", "token-", "test-key"):
        assert not re.search(rf"(?<![a-z]){private}", sent), private
    failed = [attributes_of(span)["error.type"] for span in collector.spans if "error.type" in str(span)]
    assert set(failed) == {"ProviderFault"}


def test_an_idle_tick_sends_nothing(stage: Stage, collector: Collector) -> None:
    stage.run()
    stage.nothing_is_due()
    collector.requests.clear()
    assert stage.run().event("tick.finished")["idle"] is True
    assert collector.requests == {}


@pytest.mark.parametrize("kind", ["dead", "black hole"])
def test_a_collector_that_is_away_costs_a_second(stage: Stage, collector: Collector, kind: str) -> None:
    """Counted from the run's own last word to the process's end, beside what that takes where the collector answers."""
    stage.preloaded = False  # its imports and its end are part of it
    hole = Collector(hangs=True)
    stage.add_user("ann")
    finished, usual = _run_and_end(stage)
    assert finished.named("telemetry.failed") == []
    stage.add_user("bob")
    stage.redis.ask("FLUSHALL")  # the shard was served
    finished, seconds = _run_and_end(
        stage, OTEL_EXPORTER_OTLP_ENDPOINT=hole.url if kind == "black hole" else "http://127.0.0.1:1"
    )
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


def test_what_is_not_installed_is_told_and_fails_nothing(stage: Stage, tmp_path: Path) -> None:
    stage.preloaded = False
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nclass Away:\n    def find_spec(self, name, *_):\n"
        "        if name == 'opentelemetry.sdk':\n            raise ModuleNotFoundError('gone', name=name)\n"
        "sys.meta_path.insert(0, Away())\n"
    )
    stage.add_user("ann")
    finished = stage.run(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1", PYTHONPATH=str(tmp_path))
    assert finished.code == 0, finished.err
    assert finished.event("telemetry.failed")["reason"] == (
        "opentelemetry.sdk is not installed; install requirements-otel.txt, or unset OTEL_EXPORTER_OTLP_ENDPOINT."
    )
    assert finished.event("tick.finished")["sent"] == 1


@pytest.mark.parametrize(("name", "value"), [("OTEL_BSP_MAX_QUEUE_SIZE", "2"), ("OTEL_METRIC_EXPORT_INTERVAL", "0")])
def test_a_setting_that_the_sdk_refuses_stops_nobody(stage: Stage, collector: Collector, name: str, value: str) -> None:
    stage.add_user("ann")
    finished = stage.run(**{name: value})
    assert (finished.code, finished.event("tick.finished")["sent"]) == (0, 1), finished.err
    assert "OpenTelemetry refuses a setting (ValueError)" in finished.event("telemetry.failed")["reason"]
    assert "Traceback" not in finished.err


@pytest.mark.parametrize("command", [("audit",), ("why", "ann"), ("--dry-run",)])
def test_a_command_sends_nothing(stage: Stage, collector: Collector, command: tuple[str, ...]) -> None:
    stage.add_user("ann")
    stage.run(*command)
    assert collector.requests == {}


def test_a_collector_that_refuses_is_told(stage: Stage, collector: Collector) -> None:
    collector.status = 401
    stage.add_user("ann")
    finished = stage.run()
    assert finished.code == 0
    assert "check the address, its headers" in finished.event("telemetry.failed")["reason"]


def test_the_service_is_called_as_it_is_set(stage: Stage, collector: Collector) -> None:
    stage.add_user("ann")
    stage.run(OTEL_RESOURCE_ATTRIBUTES="service.name=theirs,service.instance.id=one")
    assert {(one["service.name"], one["service.instance.id"]) for one in collector.resources} == {("theirs", "one")}


def test_a_bad_address_is_refused(stage: Stage) -> None:
    finished = stage.run(OTEL_EXPORTER_OTLP_ENDPOINT="collector:4318")
    assert finished.code == 3
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is malformed" in finished.err
