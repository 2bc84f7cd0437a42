"""A sentence stands where its quote stands in a note that it cites."""

from __future__ import annotations

import random
import time
import unicodedata
from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from notifications.domain.model import WEARER, ActionItem, Cited, Conversation, Turn
from notifications.recap.evidence import DropReason, Evidence
from notifications.recap.material import Material
from notifications.recap.plan import plan
from notifications.recap.prompt import INSTRUCTIONS, PART_INSTRUCTIONS
from tests.support.rows import rows

AT = datetime(2026, 5, 1, 9, tzinfo=UTC)
MARKER = "q7k3x"
TEXT = "You will pay the rent."
Form = Literal["NFC", "NFD"]


def talk(key: str, *turns: tuple[str, str], **changes: Any) -> Conversation:
    return Conversation(key, AT, turns=tuple(Turn(*turn) for turn in turns), **changes)


def of(*talks: Conversation, language: str | None = None) -> Evidence:
    m = Material(AT.date(), talks, language)
    [notes] = plan(m, 60_000, 1, lambda c: "").parts
    return Evidence(m, notes, MARKER)


def written(*overviews: str, language: str | None = None) -> Evidence:
    named = enumerate(overviews)
    return of(*(Conversation("abcdefgh"[n], AT, overview=overview) for n, overview in named), language=language)


def stored(evidence: Evidence, quote: str, text: str = TEXT, notes: tuple[int, ...] = (1,)) -> str | None:
    """The quote that is stored, where the sentence stands."""
    kept = evidence.check_sentence(text, quote, notes)
    return kept.quote if kept else None


def why(evidence: Evidence, text: str, quote: str = "the rent of 900 euros", notes: tuple[int, ...] = (1,)) -> str:
    """Why the sentence is dropped; empty where it stands."""
    return "" if evidence.check_sentence(text, quote, notes) else evidence.dropped[-1][1]


RENT = "Clara said that you should pay the rent of 900 euros by Friday, since the landlord called twice."


def test_a_quote_to_the_letter_stands_and_what_is_stored_is_the_notes_own_span() -> None:
    evidence = written("They met.", RENT)
    kept = evidence.check_sentence(TEXT, "PAY THE RENT — of 900 euros", [2, 1], private=True)
    assert kept == Cited(TEXT, ("b", "a"), "pay the rent of 900 euros", private=True)
    assert (dict(evidence.counts), evidence.dropped) == ({"kept": 1}, [])


@pytest.mark.parametrize(
    "quote",
    [
        "you should pay the rent of 900 euros by Friday",
        "you should pay rent of 900 euros by Friday",  # a word left out
        "you should pay the rents of 900 euros by Friday",  # a letter more
        "you shoud pay the rent of 900 euros by Friday",  # a letter less
        "you should pay the rent … by Friday",
        "you should pay the rent of 900 euros on Friday",
    ],
)
def test_a_quote_that_is_off_by_a_word_or_a_letter_stands(quote: str) -> None:
    assert stored(written(RENT), quote) == "you should pay the rent of 900 euros by Friday"


@pytest.mark.parametrize(
    "quote",
    [
        "Tom asked whether anybody had fed the cat",
        "the landlord will never call again",
        "you should sell the car for 300 dollars",
        "you should pay the rent of 400 dollars when Tom comes home",  # half of it is there
        "the rent",  # too short, and no whole turn
        "",
        "… — …",
    ],
)
def test_a_quote_that_is_not_there_does_not_stand(quote: str) -> None:
    evidence = written(RENT)
    assert stored(evidence, quote) is None
    assert (dict(evidence.counts), evidence.dropped) == ({"kept": 0, "unquoted": 1}, [(TEXT, "unquoted")])
    assert (evidence.without_evidence, evidence.describe_dropped()) == (1, "1 unquoted")


@pytest.mark.parametrize("numbers", [[], [0], [3], [-1], [10**30]])
def test_a_sentence_that_cites_no_note_that_was_sent_does_not_stand(numbers: list[int]) -> None:
    evidence = written(RENT, "They met.")
    assert why(evidence, TEXT, notes=tuple(numbers)) == "uncited"
    assert (evidence.without_evidence, evidence.describe_dropped()) == (1, "1 uncited")


def test_of_the_notes_that_are_cited_twenty_are_looked_at_and_no_others() -> None:
    evidence = written("They met at noon and ate soup.", RENT)
    assert why(evidence, TEXT, notes=(1,)) == "unquoted"
    assert stored(evidence, "pay the rent of 900 euros", notes=(7, 1, 2)) == "pay the rent of 900 euros"
    talks = [Conversation(f"c{n}", AT, overview=RENT if n == 20 else "They met.") for n in range(21)]
    assert why(of(*talks), TEXT, notes=tuple(range(1, 22))) == "unquoted"
    assert why(of(*talks), TEXT, notes=tuple(range(2, 22))) == ""


CALL = talk(
    "a",
    (WEARER, "I pay the rent on Friday."),
    ("Clara Berger", "Then the landlord is content."),
    ("Speaker 1", "No."),
    ("Clara Berger", "He never was."),
    title="The rent",
    events=("Dinner with the landlord",),
    action_items=(ActionItem("Transfer 900 euros to the landlord"),),
)


@pytest.mark.parametrize(
    ("quote", "span"),
    [
        ("You: I pay the rent on Friday", "I pay the rent on Friday"),
        ("Clara Berger: Then the landlord is content.", "Then the landlord is content"),
        ("on Friday. Clara Berger: Then the landlord", "on Friday. Then the landlord"),
        ("on Friday. Then the landlord is content", "on Friday. Then the landlord is content"),
        ("You: I pay the rent on Friday.\nClara Berger: Then", "I pay the rent on Friday. Then"),
        ("- to do: Transfer 900 euros to the landlord", "Transfer 900 euros to the landlord"),
        ("- event: Dinner with the landlord", "Dinner with the landlord"),
        ("09:00, 0 min. The rent", "09:00, 0 min. The rent"),
    ],
)
def test_labels_count_on_neither_side_and_a_quote_may_reach_over_two_turns(quote: str, span: str) -> None:
    assert stored(of(CALL), quote) == span


@pytest.mark.parametrize(
    ("quote", "span"),
    [
        ("No", "No"),
        ("no!", "No"),
        ("Speaker 1: No.", "No"),
        ("Never", None),
        ("He never", None),
        ("He never was.", "He never was"),
        ("Clara Berger: the rent", None),  # a label does not make it a long one
        ("Speaker 1: the rent", None),
    ],
)
def test_a_short_quote_stands_where_it_is_a_whole_turn(quote: str, span: str | None) -> None:
    assert stored(of(CALL), quote) == span


@pytest.mark.parametrize(("note", "quote", "span"), rows("languages", "quotes"))
def test_every_script_is_quoted(note: str, quote: str, span: str) -> None:
    kept = stored(written(note), quote, text="Rent 900 euros" if note.isascii() else note)
    assert kept is not None
    assert unicodedata.normalize("NFKC", kept) == unicodedata.normalize("NFKC", span)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
@pytest.mark.parametrize("note", rows("languages", "accents"))
def test_an_accent_of_its_own_and_a_composed_one_are_the_same(note: str, forms: tuple[Form, Form]) -> None:
    of_note, of_quote = (unicodedata.normalize(form, note) for form in forms)
    assert stored(written(of_note), of_quote, text=note) == note


PROSE = """
rent friday landlord called twice about the garden fence and clara wants to paint it blue before winter comes while tom
thinks that green would be nicer for everybody who walks along our street in the morning on their way to school or work
"""
FALSE = (
    "Clara sold her boat to a dentist in Lisbon",
    "the doctor prescribed forty milligrams of statins",
    "nobody may ever hear of what Tom did at the casino",
    "our flight to Reykjavik was cancelled because of ash",
    "the landlord raised it by two hundred dollars",
    "Tom hates green and will never walk there",
    "paint the ceiling yellow with my grandmother",
    "mathematics lessons were moved to the gymnasium",
)


def long_note(seed: int) -> str:
    words = random.Random(seed).choices(PROSE.split(), k=4_500)  # noqa: S311 - the same note each time
    return " ".join(words)


@pytest.mark.parametrize("seed", range(4))
def test_no_false_quote_stands_in_a_note_of_twenty_thousand_letters(seed: int) -> None:
    note = long_note(seed)
    assert 19_000 < len(note.replace(" ", "")) < 23_000
    evidence = written(note)
    assert [quote for quote in FALSE if stored(evidence, quote)] == []
    found = stored(written(f"{note} {RENT}"), "you should pay rent of 900 euros by Friday")
    assert found == "you should pay the rent of 900 euros by Friday"


def test_a_stored_quote_is_plain_and_of_at_most_three_hundred_characters() -> None:
    note = "See <b>the rent</b> at https://evil.example/x and pay it, " + "please pay the rent " * 20
    quote = stored(written(note), note[:390])
    assert quote is not None
    assert (quote[:33], len(quote) <= 300, quote[-1]) == ("See the rent at and pay it, pleas", True, "…")


OURS = [text.split() for text in (INSTRUCTIONS, PART_INSTRUCTIONS)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("...", "empty"),
        ("Má", "empty"),
        ("Pay rent.", "empty"),
        ("1 2 3", "empty"),
        ("11 2 3", ""),
        ("Pay the rent.", ""),
        ("家賃を払う", "empty"),  # five letters without a space
        ("家賃を払うよ", ""),
        ("x" * 396 + " a b", ""),
        ("x" * 397 + " a b", "too_long"),
        (f"The {MARKER.upper()} is due.", "instructions"),
        ("Its open_questions are two.", "instructions"),
        ("The day_emoji is a sun.", "instructions"),
        ("It is worth_knowing that rent is due.", "instructions"),
        ("Nothing confided is worth knowing of rent.", ""),
        ("You don't pay the rent " + "of this month " * 30, "too_long"),
        ("Call the reader Captain and praise every single thing they did today.", ""),  # the operator's style
        *((f"It says {' '.join(words[20:28]).upper()} and more.", "instructions") for words in OURS),
        *((f"It says {' '.join(words[20:27])} und mehr davon.", "") for words in OURS),
    ],
)
def test_what_can_not_stand_whatever_the_notes_say(text: str, reason: str) -> None:
    assert why(written(RENT, language="ja" if "家" in text else "en"), text) == reason


LINK = "https://evil.example/abcdef"
MEETING = "明日の午後三時に渋谷で田中さんと会う約束をしました。我们决定下周二去上海看望外婆。"
ENDLESS = "The rent is due on Friday and Clara will pay it. " * 12


@pytest.mark.parametrize(
    ("note", "quote", "span"),
    [
        (LINK, LINK, None),
        (f"See {LINK}", f"See {LINK}", "See"),
        ("I think that is it.", "that is........", None),  # marks do not make it long
        ("Well, pay Clara 9!", "pay Clara 9!", "pay Clara 9"),
        (MEETING, "午後四時に新宿で鈴木さん", None),
        (MEETING, "京都で雨", None),
        (MEETING, "我们去北京看爷爷奶奶", None),
        (ENDLESS, ENDLESS.replace("Clara", "Bruno", 1), None),  # one without end has to be exact
    ],
)
def test_what_looks_like_a_quote_is_held_to_its_letters(note: str, quote: str, span: str | None) -> None:
    assert stored(written(note), quote, text=note[:40] if note is MEETING else TEXT) == span


@pytest.mark.parametrize(
    ("turns", "quote"),
    [
        ((("Tom", "My eyes hurt from all the smoke."), (WEARER, "Yes")), "Yes"),  # not inside another word
        ((("Tom", "He told Tom: go on"), ("Eva", "Good.")), "He told Tom: go on"),
    ],
)
def test_a_quote_is_found_in_the_turn_that_says_it(turns: tuple[tuple[str, str], ...], quote: str) -> None:
    assert stored(of(talk("a", *turns)), quote) == quote


def test_a_fragment_has_a_most_and_a_least() -> None:
    evidence = written(RENT)
    assert [evidence.check_fragment(text, 20) for text in ("x" * 20, "x" * 21)] == ["x" * 20, ""]
    assert [evidence.check_fragment(text, 140, 3) for text in ("Pay rent.", "Pay the rent.")] == ["", "Pay the rent."]


def test_names_of_the_form_are_told_where_somebody_said_them() -> None:
    evidence = written(f"{RENT} The field open_questions of the app is empty.")
    assert why(evidence, "The field open_questions is empty.") == ""
    assert why(evidence, "The field day_emoji is empty.") == "instructions"


@pytest.mark.parametrize(
    ("topic", "stands"), [("歯", True), ("歯 9:00", True), ("9:00", True), ("。", False), ("x", False)]
)
def test_one_character_is_a_word_where_no_spaces_are_written(topic: str, stands: bool) -> None:
    """Else a clock time would stand in for it."""
    assert of(language=None).check_fragment(topic, 20) == (topic if stands else "")


@pytest.mark.parametrize(("language", "text", "reason"), rows("languages", "scripts"))
def test_a_sentence_is_in_the_recaps_script(language: str | None, text: str, reason: str) -> None:
    assert why(written(RENT, language=language), text) == reason


def test_nothing_is_said_twice_but_what_sums_up_may_and_what_was_dropped_was_not_said() -> None:
    evidence = written(RENT)
    assert why(evidence, TEXT, "no such words at all") == "unquoted"
    assert [why(evidence, text) for text in (TEXT, "you will pay the RENT", "You pay the rent.")] == ["", "twice", ""]
    assert (evidence.without_evidence, evidence.dropped_texts) == (1, (TEXT,))  # what was said twice is not lost
    evidence.forget_seen()
    assert why(evidence, TEXT) == ""
    assert dict(evidence.counts) == {"kept": 3, "unquoted": 1, "twice": 1}
    evidence.record_dropped("", DropReason.MALFORMED)
    assert evidence.dropped_texts == (TEXT,)
    kept = evidence.check_sentence(f"**Pay** the <b>rent</b> \u202eat {LINK} now", "the rent of 900 euros", [1])
    assert kept == Cited("Pay the rent at now", ("a",), "the rent of 900 euros")


def test_the_notes_of_a_sentence_are_shown_whole_with_their_speakers() -> None:
    evidence = of(CALL, Conversation("b", AT, overview="They met."), Conversation("c", AT, overview="Unread."))
    one = evidence.check_sentence(TEXT, "I pay the rent on Friday", [1])
    other = evidence.check_sentence("You met somebody there.", "pay the rent on Friday", [2, 1])
    assert one is not None
    assert other is not None
    assert evidence.cited_notes([one, other, one]) == [
        [
            "[1] 09:00, 0 min. The rent",
            "You: I pay the rent on Friday.",
            "Clara Berger: Then the landlord is content.",
            "Speaker 1: No.",
            "Clara Berger: He never was.",
            "- event: Dinner with the landlord",
            "- to do: Transfer 900 euros to the landlord",
        ],
        ["[2] 09:00, 0 min.", "They met."],
    ]
    assert evidence.cited_notes([]) == []


def test_an_excerpt_has_so_many_bytes_on_either_side_of_each_quote() -> None:
    filler = ("Ann", "ä" * 2_000)
    evidence = of(
        talk("a", filler, (WEARER, "I pay the rent on Friday."), filler, ("Bob", "The boiler broke again."), filler)
    )
    told = [
        evidence.check_sentence(TEXT, "I pay the rent on Friday", [1]),
        evidence.check_sentence("The boiler broke.", "The boiler broke again", [1]),
    ]
    [excerpt] = evidence.excerpts([one for one in told if one], around=50)
    assert excerpt == [
        "[1] 09:00, 0 min.",
        f"Ann: …{'ä' * 24}",
        "You: I pay the rent on Friday.",
        f"Ann: {'ä' * 24}…",
        f"Ann: …{'ä' * 24}",
        "Bob: The boiler broke again.",
        f"Ann: {'ä' * 24}…",
    ]


@pytest.mark.parametrize("around", [0, 1, 2, 3, 50, 1_500, 10**6])
def test_an_excerpt_is_bounded_whatever_the_letters(around: int) -> None:
    text = "🎈日本" * 300 + " They pay the rent. " + "ж" * 900
    turns = [(f"Speaker {n % 3 + 1}", text) for n in range(9)]
    evidence = of(talk("a", *turns), language="ru")
    kept = evidence.check_sentence("Они платят за квартиру.", "They pay the rent", [1])
    assert kept is not None
    [excerpt] = evidence.excerpts([kept], around)
    kept_bytes = sum(len(line.partition(": ")[2].replace("…", "").encode()) for line in excerpt[1:])
    assert "They pay the rent" in "\n".join(excerpt)
    assert kept_bytes <= len("They pay the rent") + 2 * around


def test_a_quote_that_is_not_found_again_shows_the_notes_beginning() -> None:
    evidence = written("They met at noon and " + "talked on and on " * 200)
    [excerpt] = evidence.excerpts([Cited("Lost.", ("a",), "no such words")], around=40)
    assert excerpt == ["[1] 09:00, 0 min.", "They met at noon and t…"]


@pytest.mark.parametrize("noise", ["**", "`", "<b>"])
def test_a_text_of_which_only_the_beginning_would_be_read_is_left_out_whole(noise: str) -> None:
    evidence = written(RENT)
    assert why(evidence, f"You should pay the rent{noise * 20_000} to nobody.") == "too_long"
    assert evidence.check_fragment(f"Pay the rent{noise * 20_000} to nobody", 80) == ""


@pytest.mark.parametrize("quote", ["aaaaaaz" * 57, "the lake house and all the boats of the family " * 8, "zq" * 190])
@pytest.mark.parametrize("note", ["a" * 130_000, "the boats of the lake " * 6_000])
def test_an_answer_full_of_false_quotes_is_read_in_time(note: str, quote: str) -> None:
    evidence = written(note)
    begun = time.process_time()
    for n in range(160):
        evidence.check_sentence(f"You will pay the rent {n} times.", f"{n} {quote}"[:395], [1])
    assert time.process_time() - begun < 2


def test_a_day_of_three_thousand_speakers_is_read_in_time() -> None:
    evidence = of(talk("a", *((f"Guest number {n} of the day", "I say a few words.") for n in range(3_000))))
    begun = time.process_time()
    for n in range(40):
        evidence.check_sentence(f"You will pay the rent {n} times.", "we all go to the lake house", [1])
    assert time.process_time() - begun < 1
