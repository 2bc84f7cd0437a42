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


def test_a_quote_counts_in_the_notes_that_are_cited_and_in_no_other() -> None:
    evidence = written("They met at noon and ate soup.", RENT)
    assert why(evidence, TEXT, notes=(1,)) == "unquoted"
    assert stored(evidence, "pay the rent of 900 euros", notes=(7, 1, 2)) == "pay the rent of 900 euros"


def test_of_many_cited_notes_twenty_are_looked_at() -> None:
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
    ],
)
def test_a_short_quote_stands_where_it_is_a_whole_turn(quote: str, span: str | None) -> None:
    assert stored(of(CALL), quote) == span


@pytest.mark.parametrize("label", ["Clara Berger", "Speaker 1"])
def test_a_label_does_not_make_a_short_quote_a_long_one(label: str) -> None:
    assert stored(of(CALL), f"{label}: the rent") is None


@pytest.mark.parametrize(("note", "quote", "span"), rows("languages", "quotes"))
def test_every_script_is_quoted(note: str, quote: str, span: str) -> None:
    kept = stored(written(note), quote, text="Rent 900 euros" if note.isascii() else note)
    assert kept is not None
    assert unicodedata.normalize("NFKC", kept) == unicodedata.normalize("NFKC", span)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
@pytest.mark.parametrize(
    "note",
    [
        "Der Müller zahlt für Änderungen",
        "Việt gặp bác sĩ ở Hà Nội",
        "ガラスが割れたのでガムテープ",
        "각자 내기로 했어요 내일",
    ],
)
def test_an_accent_of_its_own_and_a_composed_one_are_the_same(note: str, forms: tuple[Form, Form]) -> None:
    of_note, of_quote = (unicodedata.normalize(form, note) for form in forms)
    assert stored(written(of_note), of_quote, text=note) == note


@pytest.mark.parametrize("quote", ["午後四時に新宿で鈴木さん", "京都で雨", "我们去北京看爷爷奶奶"])
def test_a_false_quote_does_not_stand_where_no_spaces_are_written(quote: str) -> None:
    evidence = written("明日の午後三時に渋谷で田中さんと会う約束をしました。我们决定下周二去上海看望外婆。")
    assert stored(evidence, quote, text="田中さんと会う約束をしました。") is None


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


def test_what_stands_at_the_end_of_a_long_note_is_found() -> None:
    note = f"{long_note(7)} {RENT}"
    assert stored(written(note), "you should pay rent of 900 euros by Friday") == (
        "you should pay the rent of 900 euros by Friday"
    )


def test_a_quote_without_end_is_looked_for_to_the_letter_alone() -> None:
    note = "The rent is due on Friday and Clara will pay it. " * 12
    assert len(note.replace(" ", "").replace(".", "")) > 400
    assert stored(written(note), note) is not None
    assert stored(written(note), note.replace("Clara", "Bruno", 1)) is None


def test_a_stored_quote_is_plain_and_of_at_most_three_hundred_characters() -> None:
    note = "See <b>the rent</b> at https://evil.example/x and pay it, " + "please pay the rent " * 20
    quote = stored(written(note), note[:390])
    assert quote is not None
    assert (quote[:33], len(quote) <= 300, quote[-1]) == ("See the rent at and pay it, pleas", True, "…")


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
    ],
)
def test_what_can_not_stand_whatever_the_notes_say(text: str, reason: str) -> None:
    assert why(written(RENT, language="ja" if "家" in text else "en"), text) == reason


def test_what_does_not_fit_is_left_out_whole() -> None:
    evidence = written(RENT)
    assert why(evidence, "You don't pay the rent " + "of this month " * 30) == "too_long"
    assert [evidence.check_fragment(text, 20) for text in ("x" * 20, "x" * 21)] == ["x" * 20, ""]
    assert [evidence.check_fragment(text, 140, 3) for text in ("Pay rent.", "Pay the rent.")] == ["", "Pay the rent."]


@pytest.mark.parametrize(
    ("topic", "stands"), [("歯", True), ("歯 9:00", True), ("9:00", True), ("。", False), ("x", False)]
)
def test_one_character_is_a_word_where_no_spaces_are_written(topic: str, stands: bool) -> None:
    """Else a clock time would stand in for it."""
    assert of(language=None).check_fragment(topic, 20) == (topic if stands else "")


@pytest.mark.parametrize("instructions", [INSTRUCTIONS, PART_INSTRUCTIONS])
def test_eight_words_in_a_row_of_our_instructions_are_told_to_nobody(instructions: str) -> None:
    told = instructions.split()[20:28]
    assert why(written(RENT), f"It says {' '.join(told).upper()} and more.") == "instructions"
    assert why(written(RENT), f"It says {' '.join(told[:7])} und mehr davon.") == ""


def test_the_operators_style_may_be_repeated() -> None:
    style = "Call the reader Captain and praise every single thing they did today."
    assert why(written(RENT), style) == ""


def test_names_of_the_form_are_told_where_somebody_said_them() -> None:
    evidence = written(f"{RENT} The field open_questions of the app is empty.")
    assert why(evidence, "The field open_questions is empty.") == ""
    assert why(evidence, "The field day_emoji is empty.") == "instructions"


@pytest.mark.parametrize(("language", "text", "reason"), rows("languages", "scripts"))
def test_a_sentence_is_in_the_recaps_script(language: str | None, text: str, reason: str) -> None:
    assert why(written(RENT, language=language), text) == reason


def test_nothing_is_said_twice_but_what_sums_up_may() -> None:
    evidence = written(RENT)
    assert [why(evidence, text) for text in (TEXT, "you will pay the RENT", "You pay the rent.")] == ["", "twice", ""]
    assert evidence.without_evidence == 0
    evidence.forget_seen()
    assert why(evidence, TEXT) == ""
    assert dict(evidence.counts) == {"kept": 3, "twice": 1}
    assert evidence.describe_dropped() == "1 twice"


def test_a_sentence_that_was_dropped_was_not_said() -> None:
    evidence = written(RENT)
    assert [why(evidence, TEXT, quote) for quote in ("no such words at all", "the rent of 900 euros")] == [
        "unquoted",
        "",
    ]


def test_what_is_stored_is_cleaned() -> None:
    kept = written(RENT).check_sentence(
        "**Pay** the <b>rent</b> \u202eat https://evil.example/x now", "the rent of 900 euros", [1]
    )
    assert kept is not None
    assert kept.text == "Pay the rent at now"


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


def test_what_was_said_twice_is_not_lost() -> None:
    evidence = written(RENT)
    for text, quote in (
        (TEXT, "the rent of 900 euros"),
        (TEXT, "the rent of 900 euros"),
        ("Tom sold it.", "no such words"),
    ):
        evidence.check_sentence(text, quote, [1])
    evidence.record_dropped("", DropReason.MALFORMED)
    assert evidence.dropped == [(TEXT, "twice"), ("Tom sold it.", "unquoted"), ("", "malformed")]
    assert evidence.dropped_texts == ("Tom sold it.",)


def test_a_link_alone_is_no_evidence() -> None:
    assert why(written("https://evil.example/abcdef"), TEXT, "https://evil.example/abcdef") == "unquoted"
    assert stored(written("See https://evil.example/abcdef"), "See https://evil.example/abcdef") == "See"


def test_a_short_turn_is_found_where_it_is_said_and_not_inside_another_word() -> None:
    evidence = of(talk("a", ("Tom", "My eyes hurt from all the smoke."), (WEARER, "Yes")))
    assert stored(evidence, "Yes.") == "Yes"


def test_marks_do_not_make_a_quote_long() -> None:
    assert why(written("I think that is it."), TEXT, "that is........") == "unquoted"
    assert why(written("Well, pay Clara 9!"), TEXT, "pay Clara 9!") == ""


def test_a_quote_to_the_letter_stands_though_a_speakers_name_and_a_colon_are_in_it() -> None:
    evidence = of(talk("a", ("Tom", "He told Tom: go on"), ("Eva", "Good.")))
    assert stored(evidence, "He told Tom: go on") == "He told Tom: go on"


@pytest.mark.parametrize("noise", ["**", "`", "<b>"])
def test_a_text_of_which_only_the_beginning_would_be_read_is_left_out_whole(noise: str) -> None:
    evidence = written(RENT)
    assert why(evidence, f"You should pay the rent{noise * 20_000} to nobody.") == "too_long"
    assert evidence.check_fragment(f"Pay the rent{noise * 20_000} to nobody", 80) == ""


def test_a_tag_that_names_its_own_script_is_not_held_against_the_languages_usual_one() -> None:
    assert why(written(RENT, language="hi-Latn"), "Aap Clara ko kiraya denge.") == ""
    assert why(written(RENT, language="zh-Hant"), "You will pay the rent.") == "script"


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
