"""An app's documents, to the job's nouns: what counts, what is left out, what is malformed."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from notifications.adapters.stores import documents, recipients
from notifications.adapters.stores.imports import check_user, mend_user
from notifications.adapters.stores.layout import read_layout
from notifications.domain.errors import Malformed
from notifications.domain.model import ActionItem, Conversation, Device, Place, Turn, User
from notifications.ports import Decided, Mended, UserDocument

LAYOUT = read_layout(None)
AT = datetime(2026, 5, 1, 9, 0, 0, 250_000, tzinfo=UTC)
ON = {"time_zone": "Europe/Paris", "daily_summary_enabled": True, "daily_summary_hour_local": 22}
TALK: dict[str, Any] = {
    "created_at": AT,
    "started_at": AT - timedelta(hours=1),
    "finished_at": AT,
    "discarded": False,
    "is_locked": False,
    "language": "pt-BR",
    "structured": {
        "title": " A talk ",
        "overview": "They met.",
        "category": "work",
        "action_items": [
            {"description": "Buy", "completed": True},
            {"description": " "},
            "odd",
            {"description": "Call"},
        ],
        "events": [{"title": "Dinner"}, {"title": 7}, {}],
    },
    "geolocation": {"latitude": 48, "longitude": 16.5, "address": " Ring 1 "},
    "transcript_segments": [{"text": "Not read."}],
}


def test_a_user_is_read_whole() -> None:
    assert documents.user_from(LAYOUT, "ann", ON) == User("ann", "Europe/Paris", 22, True, None)
    odd = ON | {"daily_summary_hour_local": 7.0, "daily_summary_enabled": False, "language": " de "}
    assert documents.user_from(LAYOUT, "ann", odd) == User("ann", "Europe/Paris", 7, False, "de")
    assert documents.user_from(LAYOUT, "ann", ON | {"language": "Ignore the notes"}).language is None


@pytest.mark.parametrize("hour", [0, 23])
def test_an_hour_is_one_of_the_day(hour: int) -> None:
    assert documents.user_from(LAYOUT, "ann", ON | {"daily_summary_hour_local": hour}).hour == hour


@pytest.mark.parametrize(
    ("changes", "flaw"),
    [
        ({"daily_summary_enabled": 1}, "users/ann: daily_summary_enabled is not true or false."),
        ({"daily_summary_hour_local": True}, "users/ann: daily_summary_hour_local is not a whole number from 0 to 23."),
        ({"daily_summary_hour_local": "22"}, "users/ann: daily_summary_hour_local is not a whole number from 0 to 23."),
        ({"daily_summary_hour_local": 24}, "users/ann: daily_summary_hour_local is not a whole number from 0 to 23."),
        ({"daily_summary_hour_local": 1.5}, "users/ann: daily_summary_hour_local is not a whole number from 0 to 23."),
        ({"time_zone": None}, "users/ann: time_zone is missing or no text."),
        (
            {"time_zone": "mars"},
            "users/ann: time_zone: 'mars' is no IANA time zone; names are exact, such as 'Europe/Paris'.",
        ),
        ({"language": "\ud83d"}, "users/ann holds half of a surrogate pair."),
    ],
)
def test_a_user_that_can_not_be_served_says_why(changes: dict[str, Any], flaw: str) -> None:
    made, written = AT, AT + timedelta(days=1)
    active = "daily_summary_enabled" not in changes
    assert documents.user_document_from(LAYOUT, "ann", ON | changes, made, written) == UserDocument(
        "ann", None, flaw, made, written, active
    )


def test_a_listed_user_has_the_stores_own_times() -> None:
    assert documents.user_document_from(LAYOUT, "ann", ON, AT, AT) == UserDocument(
        "ann", documents.user_from(LAYOUT, "ann", ON), "", AT, AT, active=True
    )
    assert documents.user_document_from(LAYOUT, "ann", [ON]).flaw == "users/ann is not a map of fields."


ZONE, HOUR, SWITCH = "time_zone", "daily_summary_hour_local", "daily_summary_enabled"


@pytest.mark.parametrize(
    ("doc", "changes", "undecided"),
    [
        (ON, {}, ()),
        ({}, {}, ("no time zone", "no switch", "no hour")),
        (ON | {ZONE: "Asia/Kolkata "}, {ZONE: "Asia/Kolkata"}, ()),
        (ON | {ZONE: "europe/paris"}, {ZONE: "Europe/Paris"}, ()),
        (ON | {ZONE: "US/Pacific-New"}, {ZONE: "America/Los_Angeles"}, ()),
        (ON | {ZONE: "US/Pacific"}, {}, ()),
        (ON | {ZONE: "GMT+03:00"}, {}, ("an unknown time zone",)),
        (ON | {ZONE: "paris"}, {}, ("an unknown time zone",)),
        (ON | {ZONE: " "}, {}, ("no time zone",)),
        (ON | {ZONE: 7, SWITCH: False}, {}, ("no time zone",)),
        (ON | {SWITCH: None}, {}, ("no switch",)),
        (ON | {SWITCH: "False"}, {SWITCH: False}, ()),
        (ON | {SWITCH: 1}, {}, ("an invalid switch",)),
        (ON | {HOUR: " 7"}, {HOUR: 7}, ()),
        (ON | {HOUR: 22.0}, {HOUR: 22}, ()),
        (ON | {HOUR: "٢٢"}, {}, ("an invalid hour",)),
        (ON | {HOUR: True}, {}, ("an invalid hour",)),
        (ON | {HOUR: "24"}, {}, ("an invalid hour",)),
        (ON | {HOUR: 10**400, ZONE: "UTC "}, {ZONE: "UTC"}, ("an invalid hour",)),
        (ON | {HOUR: float("nan")}, {}, ("an invalid hour",)),
    ],
)
def test_only_what_has_one_right_answer_is_mended(
    doc: dict[str, Any], changes: dict[str, Any], undecided: tuple[str, ...]
) -> None:
    told = mend_user(LAYOUT, doc)
    assert ({name: new for name, (_, new) in told.changes.items()}, told.undecided) == (changes, undecided)
    assert {name: type(new) for name, (_, new) in told.changes.items()} == {n: type(v) for n, v in changes.items()}


def test_what_is_decided_is_written_where_nothing_is_and_over_nothing_that_counts() -> None:
    decided = Decided("Europe/Paris", 7, enable=True)
    for doc in ({}, {ZONE: "GMT+03:00", HOUR: 99}):
        told = mend_user(LAYOUT, doc, decided)
        new = {name: value for name, (_, value) in told.changes.items()}
        assert (new, told.undecided) == ({ZONE: "Europe/Paris", SWITCH: True, HOUR: 7}, ())
    assert mend_user(LAYOUT, ON | {SWITCH: False}, decided) == Mended({})
    assert mend_user(LAYOUT, ON | {SWITCH: "no"}, decided) == Mended({}, ("an invalid switch",))


def test_recaps_are_wanted_where_the_switch_is_on_and_nowhere_else() -> None:
    wanted = [documents.active(LAYOUT, doc) for doc in (ON, ON | {"daily_summary_enabled": 1}, {}, None, "text")]
    assert wanted == [True, False, False, False, False]


def test_a_conversation_is_read_whole() -> None:
    assert documents.conversation_from(LAYOUT, "t", TALK) == Conversation(
        id="t",
        created_at=AT,
        started_at=AT - timedelta(hours=1),
        finished_at=AT,
        title="A talk",
        overview="They met.",
        category="work",
        action_items=(ActionItem("Buy", completed=True), ActionItem("Call")),
        events=("Dinner",),
        language="pt-BR",
        place=Place(48.0, 16.5, "Ring 1"),
    )


def read(doc: object) -> Conversation:
    found = documents.conversation_from(LAYOUT, "t", doc)
    assert found is not None
    return found


def said(*texts: str) -> tuple[Turn, ...]:
    """Turns of nobody in particular."""
    return tuple(Turn("", text) for text in texts)


def test_a_conversation_of_words_alone_is_its_transcript() -> None:
    segments = [{"text": " Hello. "}, {"text": ""}, "odd", {"words": 1}, {"text": "Yes."}]
    bare = documents.conversation_from(LAYOUT, "t", {"created_at": AT.isoformat(), "transcript_segments": segments})
    assert bare == Conversation("t", AT, turns=said("Hello.", "Yes."))
    for length, cut in ((75_000, False), (75_001, True)):
        long = [{"text": "x" * 75_000}, {"text": "y" * length}]
        found = documents.conversation_from(
            LAYOUT, "t", {"created_at": AT, "structured": None, "transcript_segments": long}
        )
        assert found == Conversation("t", AT, turns=said("x" * 75_000, "y" * 75_000), cut=cut)
    told = documents.conversation_from(LAYOUT, "t", {"created_at": AT, "structured": {"overview": "x" * 150_001}})
    assert told == Conversation("t", AT, overview="x" * 150_000, cut=True)


SAID = [{"text": " Hello. ", "start": 0.0, "is_user": True}, {"text": ""}, {"text": "Grüße 🌱 {[,]}"}]


def spoken(segments: object, **changes: Any) -> Conversation | None:
    return documents.conversation_from(LAYOUT, "t", {"created_at": AT, "transcript_segments": segments} | changes)


def test_a_compressed_transcript_is_read() -> None:
    for packed in (zlib.compress(json.dumps(SAID).encode()), zlib.compress(json.dumps(SAID, indent=2).encode())):
        assert spoken(packed) == Conversation("t", AT, turns=(Turn("You", "Hello."), Turn("", "Grüße 🌱 {[,]}")))
    nothings: list[object] = [zlib.compress(b"[]"), zlib.compress(b" [ ] "), b"", "", [], None]
    for nothing in nothings:
        assert spoken(nothing) == Conversation("t", AT)


def test_a_long_transcript_is_read_as_far_as_it_is_looked_at() -> None:
    many = zlib.compress(json.dumps([{"text": "Yes."}] * 20_001).encode())
    found = read({"created_at": AT, "transcript_segments": many})
    assert (len(found.turns), found.cut) == (20_000, True)
    long = zlib.compress(json.dumps([{"text": "é" * 50, "words": "x" * 999}] * 8_000).encode())  # 10 MB
    found = read({"created_at": AT, "transcript_segments": long})
    assert (len(found.turns), {len(turn.text) for turn in found.turns}, found.cut) == (3_000, {50}, True)
    wide = zlib.compress(json.dumps([{"text": "Yes.", "words": "x" * 9_962}] * 700).encode())  # 10,000 bytes each
    found = read({"created_at": AT, "transcript_segments": wide})
    assert (len(found.turns), found.cut) == (600, True)


def test_an_encrypted_transcript_is_told_as_one_where_nothing_else_was_written() -> None:
    secret = base64.b64encode(bytes(range(99))).decode()
    assert spoken(secret) == Conversation("t", AT, encrypted=True)
    assert spoken(secret, structured={"overview": "They met."}) == Conversation("t", AT, overview="They met.")
    tasks = spoken(secret, structured={"action_items": [{"description": "Call"}]})
    assert tasks == Conversation("t", AT, encrypted=True, action_items=(ActionItem("Call"),))


BOMB = zlib.compress(b"[" + b" " * 300_000_000)


@pytest.mark.parametrize(
    "segments",
    [
        b"\x00\x01",
        zlib.compress(json.dumps(SAID).encode())[:-9],
        zlib.compress(b"[1, 2"),
        zlib.compress(b'{"text": "no list"}'),
        zlib.compress(b"\xff\xfe"),
        zlib.compress(b"[" * 200_000),
        zlib.compress(b"[" + b"9" * 5_000 + b"]"),
        zlib.compress(b'[{"text": "\\ud83d"}]'),
        zlib.compress(bytes(300_000_000)),
        {"text": "a map"},
        7,
        True,
    ],
)
def test_a_transcript_that_can_not_be_read_costs_its_conversation_and_little_else(segments: object) -> None:
    tracemalloc.start()
    with pytest.raises(Malformed, match="conversation t"):
        spoken(segments)
    assert tracemalloc.get_traced_memory()[1] < 60_000_000
    tracemalloc.stop()
    told = spoken(segments, structured={"overview": "They met."})
    assert told == Conversation("t", AT, overview="They met.")


def test_a_bomb_of_spaces_says_nothing() -> None:
    assert spoken(BOMB) == Conversation("t", AT, cut=True)


def test_the_text_is_an_apps_summary_else_the_overview_else_the_sections() -> None:
    results = [{"app_id": "a", "content": "  "}, "odd", {"content": 7}, {"app_id": None, "content": "---"}]
    written = {
        "apps_results": [*results, {"app_id": "b", "content": "# Mine\n- **one**"}, {"content": "not read"}],
        "plugins_results": [{"plugin_id": "p", "content": "Older."}],
    }
    sections = [
        {"heading": "Aside", "body_markdown": "Last.", "kind": "side_notes"},
        {"heading": "First", "body_markdown": "Said.", "source_segment_ids": ["s"]},
        {"heading": "Empty", "body_markdown": " "},
        {"body_markdown": "Bare."},
        {"heading": 7, "body_markdown": 7},
        "odd",
    ]
    structured = {"overview": "They met.", "sections": sections}

    def told(doc: dict[str, Any]) -> str:
        return read({"created_at": AT, "structured": structured} | doc).overview

    assert told(written) == "Mine:\none"
    assert told(written | {"apps_results": results}) == "Older."
    assert told({"apps_results": "odd", "plugins_results": results}) == "They met."
    assert told({"structured": structured | {"overview": " "}}) == "First:\nSaid.\nBare.\nAside:\nLast."
    assert told({"structured": {"sections": [{"heading": "Alone"}] * 200}}) == ""
    with pytest.raises(Malformed):
        told({"apps_results": [{"content": "\ud83d"}]})


def test_the_users_own_title_goes_before_the_generated_one() -> None:
    titles = [read(TALK | {"user_title": title}).title for title in (" Mine ", " ", 7, None)]
    assert titles == ["Mine", "A talk", "A talk", "A talk"]


def test_a_deleted_task_is_none() -> None:
    items = [{"description": "a", "deleted": True}, {"description": "b", "deleted": False}, {"description": "c"}]
    found = read(TALK | {"structured": {"action_items": items}})
    assert [item.description for item in found.action_items] == ["b", "c"]


@pytest.mark.parametrize("name", ["discarded", "is_locked", "deleted"])
def test_what_is_discarded_locked_or_deleted_is_left_out(name: str) -> None:
    assert documents.conversation_from(LAYOUT, "t", TALK | {name: True}) is None
    assert documents.conversation_from(LAYOUT, "t", TALK | {name: "true"}) is not None


@pytest.mark.parametrize(
    "doc",
    [
        None,
        [TALK],
        TALK | {"structured": ["no map"]},
        TALK | {"created_at": None},
        TALK | {"created_at": "yesterday"},
        TALK | {"started_at": datetime(1969, 1, 1, tzinfo=UTC)},
        TALK | {"finished_at": "2300-01-01T00:00:00+00:00"},
        TALK | {"structured": {"title": "\ud83d"}},
    ],
)
def test_what_can_not_be_is_malformed(doc: object) -> None:
    with pytest.raises(Malformed, match="conversation t"):
        documents.conversation_from(LAYOUT, "t", doc)


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ({"latitude": 90, "longitude": -180}, Place(90.0, -180.0)),
        ({"latitude": -90.0, "longitude": 180.0, "address": 7}, Place(-90.0, 180.0)),
        ({"latitude": 90.1, "longitude": 0}, None),
        ({"latitude": 0, "longitude": -180.1}, None),
        ({"latitude": True, "longitude": 0}, None),
        ({"latitude": "48", "longitude": 0}, None),
        ({"latitude": float("nan"), "longitude": 0}, None),
        ({"longitude": 0}, None),
        ("Vienna", None),
        (None, None),
    ],
)
def test_a_place_is_one_on_earth(place: object, found: Place | None) -> None:
    assert read(TALK | {"geolocation": place}).place == found


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (AT, AT),
        ("2026-05-01T11:00:00.25+02:00", AT),
        (AT.astimezone(timezone(timedelta(hours=2))), AT),
        (datetime(2026, 5, 1), None),  # noqa: DTZ001 - naive on purpose
        ("2026-05-01T09:00:00", None),
        ("soon", None),
        (date(2026, 5, 1), None),
        (7, None),
        (None, None),
        (datetime(1970, 12, 31, tzinfo=UTC), None),
        (datetime(1971, 1, 1, tzinfo=UTC), datetime(1971, 1, 1, tzinfo=UTC)),
        (datetime(2199, 1, 1, tzinfo=UTC), datetime(2199, 1, 1, tzinfo=UTC)),
        (datetime(2200, 1, 1, tzinfo=UTC), None),
    ],
)
def test_a_moment_is_aware_and_somebody_lived_through_it(value: object, found: datetime | None) -> None:
    moment = documents.moment(value)
    assert moment == found
    assert moment is None or moment.tzinfo is UTC


def test_devices_are_read_each_on_its_own() -> None:
    found = [
        ("a", {"token": " t1 "}, 1),
        ("b", {"token": ""}, 2),
        ("c", ["t2"], 3),
        ("d", {"token": "\ud83d"}, 4),
        ("e", {"token": "has a space"}, 5),
        ("f", {"token": "x" * 2_049}, 6),
        ("g", {"token": "x" * 2_048}, 7),
        ("h", {"token": "a\x00b"}, 8),
        ("i", {}, 9),
        ("j", {"fid": " f1 "}, 10),
        ("k", {"token": "t3", "fid": "f3"}, 11),
        ("l", {"token": "has a space", "fid": "f4"}, 12),  # one can't hide the other
        ("m", {"token": "t5", "fid": ["f5"]}, 13),
        ("n", {"token": "", "fid": "a\x00b"}, 14),
        ("o", {"token": "has a space", "fid": ""}, 15),
    ]
    read = [
        Device("t1", "a", 1),
        Device("x" * 2_048, "g", 7),
        Device("", "j", 10, "f1"),
        Device("t3", "k", 11, "f3"),
        Device("", "l", 12, "f4"),
        Device("t5", "m", 13),
    ]
    assert recipients.devices_from(LAYOUT, found) == (read, 7)


def test_each_token_is_pushed_to_once_and_the_legacy_field_only_without_any() -> None:
    twice = [Device("t1", "a", 1), Device("t2", "b", 2), Device("t1", "c", 3)]
    assert recipients.select_devices(twice, {"fcm_token": "old"}) == [Device("t2", "b", 2), Device("t1", "c", 3)]
    fids = [Device("", "a", 1, "f1"), Device("t1", "b", 2, "f1"), Device("t1", "c", 3), Device("", "d", 4, "f2")]
    assert recipients.select_devices(fids, None) == [
        fids[1],
        fids[3],
    ]  # one installation
    alike = [Device("x", "a", 1), Device("", "b", 2, "x")]
    assert recipients.select_devices(alike, None) == alike
    renewed = [Device("t1", "a", 1, "f1"), Device("t2", "b", 2, "f1")]
    assert recipients.select_devices(renewed, None) == [renewed[1]]
    assert recipients.select_devices([], {"fcm_token": "old"}) == [Device("old", None, "old")]
    assert [recipients.select_devices([], user) for user in ({}, {"fcm_token": "a b"}, {"fcm_token": 7}, None)] == [
        []
    ] * 4


@pytest.mark.parametrize("device", [{"fid": "f"}, {"token": "t"}, {"token": "t", "fid": "f"}])
def test_a_device_is_imported_with_a_token_or_a_fid(device: dict[str, str]) -> None:
    user = {"time_zone": "UTC", "daily_summary_enabled": True, "daily_summary_hour_local": 22}
    assert check_user(LAYOUT, "ann", user, {"phone": device}, {})[1] == {"phone": device}
    with pytest.raises(Malformed, match="fcm_tokens/phone: token is missing, or is no token, and there is no fid"):
        check_user(LAYOUT, "ann", user, {"phone": dict.fromkeys(device, "")}, {})
