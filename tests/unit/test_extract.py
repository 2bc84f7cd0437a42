"""The recap without an LLM: the day's own sentences, chosen and never changed."""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from notifications.adapters.sentences import sentences
from notifications.domain.model import WEARER, ActionItem, Cited, Conversation, Draft, Turn
from notifications.recap.extract import extract
from notifications.recap.material import Material
from notifications.recap.scoring import MAX_CANDIDATES
from tests.support.rows import rows

DAY = date(2026, 5, 1)
AT = datetime(2026, 5, 1, 9, tzinfo=UTC)
SENTENCE = re.compile(r"(?<=[.!?])\s+")


def split(text: str, language: str | None) -> list[str]:
    return SENTENCE.split(text)


def talk(key: str, overview: str, minutes: int = 30, **changes: Any) -> Conversation:
    given: dict[str, Any] = {"title": f"Title {key}", "started_at": AT, "finished_at": AT + timedelta(minutes=minutes)}
    return Conversation(key, AT, overview=overview, **(given | changes))


def extracted(*talks: Conversation, language: str | None = None) -> Draft:
    return extract(Material(DAY, talks, language), split)


PAINT = talk(
    "paint",
    "The team agreed to paint the old harbour blue. The harbour paint costs 40 euros a can. Who buys the paint?",
    45,
    category="work",
)
DOG = talk("dog", "The dog ran through the garden all morning. It came home wet.", 10, category="family")


def texts(items: tuple[Cited, ...]) -> list[str]:
    return [one.text for one in items]


def said(key: str, *turns: tuple[str, str], **changes: Any) -> Conversation:
    return talk(key, "", turns=tuple(Turn(*turn) for turn in turns), **changes)


def test_each_part_comes_from_the_days_own_sentences_and_says_where_from() -> None:
    first, second = "Anna Berger pays 40 euros for the blue paint.", "On Friday the ferry to Split leaves at seven."
    third, fourth = "The neighbours want a new garden fence before winter.", "Nobody has found the old ladder so far."
    assert extracted(talk("a", f"{first} {third}", category="work"), talk("b", f"{second} {fourth}")) == Draft(
        headline="Title a · Title b",
        overview=(
            Cited(first, ("a",), first),
            Cited(third, ("a",), third),
            Cited(second, ("b",), second),
            Cited(fourth, ("b",), fourth),
        ),
        day_emoji="💼",
        push=f"{first} {second}",
        coverage={"whole": 0, "part": 0, "extract": 2},
        metadata={"model": "extract", "source": "extract"},
    )


def test_a_day_of_questions_still_says_something() -> None:
    draft = extracted(talk("a", "Will anybody buy the blue paint? Where is the big dog?"))
    assert texts(draft.overview) == ["Will anybody buy the blue paint?", "Where is the big dog?"]


def test_what_was_not_said_in_sentences_stands_for_it() -> None:
    draft = extracted(talk("a", "", title="", events=("Dinner",), action_items=(ActionItem("Buy seeds"),)))
    words = "Dinner. Buy seeds"
    assert (draft.headline, draft.push, draft.overview) == (words, words, (Cited(words, ("a",), words),))
    assert texts(extracted(talk("b", "Hi there.")).overview) == ["Hi there."]


def test_a_line_of_what_was_written_ends_a_sentence_and_a_heading_is_none() -> None:
    draft = extracted(
        talk("a", "What was decided:\nThe team agreed to paint the fence blue\nPaint costs 40 euros"),
        talk("b", "議題：\n予算は四十万円に決まった\n来週また会う予定です"),
    )
    assert texts(draft.overview) == [
        "The team agreed to paint the fence blue",
        "Paint costs 40 euros",
        "予算は四十万円に決まった",
        "来週また会う予定です",
    ]
    assert draft.text == (
        "The team agreed to paint the fence blue. Paint costs 40 euros. 予算は四十万円に決まった。 来週また会う予定です"
    )


def test_conversations_that_are_not_shown_are_counted_and_those_that_are_shown_are_not() -> None:
    two = extracted(PAINT, DOG)
    assert [one for one in texts(two.overview) if one.startswith("And ")] == []
    alike = [talk(str(n), "The harbour was painted blue by the whole team.") for n in range(9)]
    assert texts(extracted(*alike, DOG).overview)[-1] == "And 8 more conversations."


def test_things_to_do_that_are_not_shown_are_counted() -> None:
    tasks = tuple(ActionItem(f"Water plant {n}") for n in range(12))
    assert texts(extracted(talk("a", "They met at noon today.", action_items=tasks)).overview) == [
        "They met at noon today.",
        "And 2 more things to do.",
    ]


def test_what_nobody_is_known_to_have_said_may_go_on_in_the_next_line() -> None:
    spoken = said("a", ("", "So we take the blue paint"), ("", "for the old garden fence then."))
    assert texts(extracted(spoken).overview) == ["So we take the blue paint for the old garden fence then."]


def test_what_two_people_say_is_never_one_sentence() -> None:
    spoken = said("a", (WEARER, "We take the blue paint"), ("Ann", "for the old garden fence perhaps."))
    assert texts(extracted(spoken).overview) == ["We take the blue paint", "for the old garden fence perhaps."]


def test_fillers_and_doubled_words_go_and_nothing_else_changes() -> None:
    spoken = said("a", (WEARER, "Um, the the ferry, uh, leaves at seven on Friday."))
    assert texts(extracted(spoken, language="en").overview) == ["the ferry, leaves at seven on Friday."]
    written = talk("a", "Um, the the ferry leaves at seven on Friday.")
    assert texts(extracted(written, language="en").overview) == ["Um, the the ferry leaves at seven on Friday."]


def test_a_sentence_that_begins_with_a_pronoun_comes_with_the_one_before_it_and_is_no_push() -> None:
    draft = extracted(talk("a", "The ferry to Split is blue. It leaves at seven on Friday."), language="en")
    assert texts(draft.overview)[-1] == "The ferry to Split is blue. It leaves at seven on Friday."
    alone = extracted(talk("a", "He must answer the letter by Monday."), language="en")
    assert (texts(alone.overview), alone.push) == (["He must answer the letter by Monday."], "1 conversation")


def test_background_audio_does_not_win_by_its_minutes() -> None:
    radio = said(
        "radio",
        *(
            (f"Speaker {n % 2 + 1}", f"The striker Nunez scored goal number {n} in the {n}th minute.")
            for n in range(40)
        ),
        title="",
        finished_at=AT + timedelta(hours=5),
    )
    own = said("own", (WEARER, "I told Clara that the rent of 900 euros is due on Friday."), ("Clara", "Fine with me."))
    draft = extracted(radio, own, language="en")
    assert draft.push.startswith("I told Clara that the rent of 900 euros is due on Friday.")
    assert draft.headline == "Title own"


def test_what_a_known_wearer_said_nothing_in_is_not_on_the_lock_screen() -> None:
    podcast = said("podcast", ("Speaker 1", "The sheriff found Harriet on 14 March near the river."), title="A podcast")
    own = said("own", (WEARER, "I told Clara that the rent of 900 euros is due on Friday."), title="The rent")
    draft = extracted(podcast, own, language="en")
    assert (draft.headline, "sheriff" in draft.push) == ("The rent", False)
    unknown = said("own", ("Clara", "The rent of 900 euros is due on Friday, I told you."), title="The rent")
    draft = extracted(podcast, unknown, language="en")
    assert (set(draft.headline.split(" · ")), "sheriff" in draft.push) == ({"The rent", "A podcast"}, True)


def test_of_two_that_say_the_same_of_the_same_names_the_later_stands() -> None:
    spoken = said(
        "a",
        (WEARER, "The dinner with Clara is at seven on Friday."),
        ("Clara", "Sounds lovely, thanks a lot for asking."),
        (WEARER, "The dinner with Clara is at eight on Friday."),
    )
    told = texts(extracted(spoken, language="en").overview)
    assert [one for one in told if "dinner" in one] == ["The dinner with Clara is at eight on Friday."]


@pytest.mark.parametrize(
    ("before", "later", "corrected"),
    [
        ("We meet Clara at the harbour on Friday.", "The ferry is full, so we meet Clara on Sunday.", True),
        ("We meet Clara at the harbour on Friday.", "The ferry is full, so we meet Clara on Sunday, not Friday.", True),
        ("We meet Clara at the harbour on Friday.", "The ferry is full, so we meet Bruno on Sunday.", False),
        ("We meet Clara at the harbour on Friday.", "The ferry is full, so we meet Clara on Friday.", False),
        ("We meet Clara at the harbour as always.", "The ferry is full, so we meet Clara on Sunday.", False),
    ],
)
def test_a_later_conversation_corrects_the_days_and_numbers_of_the_same_name(
    before: str, later: str, corrected: bool
) -> None:
    others = "The cellar pump is broken and costs 300 euros.", "Bruno sells his old green bicycle in June."
    draft = extracted(talk("a", before), talk("b", later), *map(talk, "cd", others), language="en")
    assert [before in one for one in texts(draft.sentences)].count(True) == (not corrected)


def test_a_push_tells_nothing_that_a_later_sentence_may_correct() -> None:
    """The later one may name the old day too."""
    paint, later = (
        "The garden fence gets blue paint on Friday.",
        "Blue paint for the garden fence is late: Friday or Monday.",
    )
    draft = extracted(talk("a", paint), talk("b", later), language="en")
    assert (paint in draft.push, later in draft.push) == (False, True)


def test_what_others_wrote_is_cleaned() -> None:
    draft = extracted(talk("a", "See <b>this</b> https://evil.example/x now, please do. \x1b[2JBye for now, friend."))
    assert texts(draft.overview) == ["See this now, please do.", "Bye for now, friend."]


def test_a_long_day_is_heard_from_its_start_to_its_end() -> None:
    """Two sentences of each of three hundred: the first of each comes before the second of any."""
    asked: list[str] = []

    def counting_split(text: str, language: str | None) -> list[str]:
        asked.append(text)
        return split(text, language)

    talks = tuple(
        talk(str(n), f"Alpha{n} met beta{n} about gamma{n} there. More{n} was said{n} then{n}.") for n in range(300)
    )
    draft = extract(Material(DAY, talks, None), counting_split)
    assert (len(asked), draft.coverage["extract"], MAX_CANDIDATES) == (300, 300, 240)
    *told, more = texts(draft.overview)
    assert [one.startswith("Alpha") for one in told] == [True] * 6
    shown = {key for one in draft.overview for key in one.conversation_ids}
    shown |= {key for h in draft.highlights for key in h.conversation_ids}
    assert more == f"And {300 - len(shown)} more conversations."


@pytest.mark.parametrize(("language", "text", "cut"), rows("languages", "sentences"))
def test_sentences_are_cut_by_the_rules_of_their_language(language: str | None, text: str, cut: list[str]) -> None:
    assert sentences(text, language) == cut


def test_each_conversation_is_cut_by_its_own_language_else_the_days() -> None:
    asked: list[tuple[str, str | None]] = []

    def noted(text: str, language: str | None) -> list[str]:
        asked.append((text, language))
        return [text]

    talks = (talk("a", "Wir gingen in den Park.", language="de"), talk("b", "We went to the park."))
    extract(Material(DAY, talks, "pt"), noted)
    assert asked == [("Wir gingen in den Park.", "de"), ("We went to the park.", "pt")]


def test_two_words_are_no_sentence_and_six_letters_without_a_space_are() -> None:
    assert texts(extracted(talk("a", "No way. Big dogs ran. Small cats slept.")).overview) == [
        "Big dogs ran.",
        "Small cats slept.",
    ]
    draft = extract(Material(DAY, (talk("a", "公園。公園で会いました。"),), "ja"), sentences)
    assert texts(draft.overview) == ["公園で会いました。"]


def test_lists_end_and_the_heaviest_talks_come_first() -> None:
    spoken = (
        "Harbour doors number 17 altogether. Nothing else happened there. Anna agreed to sail north.",
        "Garden roses cost 23 crowns each. Tulips grow best inside. Bruno decided against wooden fences.",
        "Kitchen tiles weigh 31 kilos together. Our oven arrives late. Carla approved those copper pans.",
        "Library shelves hold 47 atlases now. That novel was missing. David chose leather armchairs instead.",
        "Station clocks lost 59 seconds overnight. Platforms close early. Elena settled on night trains.",
    )
    tasks = (ActionItem("Call"), ActionItem("Buy"), ActionItem("Sell"))
    talks = [talk(str(n), one, action_items=tasks[:n]) for n, one in enumerate(spoken)]
    draft = extracted(*talks)
    assert len(draft.overview) == 6
    assert [len(one.items) for one in draft.highlights] == [2, 2, 1, 2]
    assert draft.headline == "Title 4 · Title 2"
    assert len(draft.push) <= 140
    assert draft.push.endswith(".")


def test_the_days_emoji_is_that_of_most_of_its_talks_and_any_where_none_is_known() -> None:
    said = "They talked for a while."
    days = [("food", "work", "work"), ("quilting", "quilting", "food"), ("",)]
    found = [extracted(*(talk(str(n), said, category=one) for n, one in enumerate(day))).day_emoji for day in days]
    assert found == ["💼", "🗓️", "🗓️"]


def test_a_sentence_of_which_only_the_beginning_is_read_is_no_sentence() -> None:
    """Many conversations leave each little room; the end of what is read may say the opposite."""
    long = talk(
        "long", "Noah met Clara at the harbour on Monday. " * 9 + "You must pay Tom 500 euros only if he signs it."
    )
    others = [talk(f"t{n}", f"Nobody was at place {n}.") for n in range(150)]
    told = extracted(long, *others)
    assert not [one for one in told.sentences if "You must pay" in one.text and "signs it" not in one.text]


@pytest.mark.parametrize("marks", ["!" * 100_000 + "a", "?" * 100_000 + "x", ". " * 50_000 + "x"])
def test_marks_without_end_are_read_in_time(marks: str) -> None:
    begun = time.process_time()
    extracted(said("a", ("", marks), ("", "goes on and on with many words.")))
    assert time.process_time() - begun < 2
