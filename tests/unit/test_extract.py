"""The recap without an LLM: the day's own sentences, chosen and never changed."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from notifications.adapters.summarizers.offline import sentences
from notifications.domain.model import ActionItem, Cited, Conversation, Draft, Highlight
from notifications.recap.extract import CANDIDATES, extract
from notifications.recap.material import Material

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


def test_each_part_comes_from_the_days_own_sentences_and_says_where_from() -> None:
    assert extracted(PAINT, DOG) == Draft(
        headline="Title paint · Title dog",
        overview="The team agreed to paint the old harbour blue. The harbour paint costs 40 euros a can. "
        "The dog ran through the garden all morning. It came home wet.",
        day_emoji="💼",
        highlights=(
            Highlight("Title paint", "💼", "The harbour paint costs 40 euros a can.", ("paint",)),
            Highlight("Title dog", "🏡", "It came home wet.", ("dog",)),
        ),
        unresolved_questions=(Cited("Who buys the paint?", ("paint",)),),
        decisions_made=(Cited("The team agreed to paint the old harbour blue.", ("paint",)),),
        knowledge_nuggets=(Cited("The harbour paint costs 40 euros a can.", ("paint",)),),
        coverage={"whole": 0, "part": 0, "extract": 2},
        metadata={"model": "extract", "source": "extract"},
    )


def test_the_same_day_gives_the_same_extract() -> None:
    assert extracted(PAINT, DOG) == extracted(PAINT, DOG)


def test_an_overview_tells_of_different_conversations_and_says_nothing_twice() -> None:
    twice = [
        talk(str(n), "The harbour was painted blue by the whole team today. Then it rained a bit.") for n in range(9)
    ]
    draft = extracted(*twice, DOG)
    assert draft.overview.count("painted blue") == 1
    assert "The dog ran" in draft.overview
    assert len({h.summary for h in draft.highlights}) == len(draft.highlights)


def test_a_day_of_questions_still_says_something() -> None:
    draft = extracted(talk("a", "Who will buy the blue paint? Where is the big dog?"))
    assert draft.overview == "Who will buy the blue paint? Where is the big dog?"
    assert draft.unresolved_questions == (
        Cited("Who will buy the blue paint?", ("a",)),
        Cited("Where is the big dog?", ("a",)),
    )
    assert (draft.decisions_made, draft.knowledge_nuggets) == ((), ())


def test_what_is_asked_is_no_decision_and_what_is_decided_is_no_nugget() -> None:
    draft = extracted(talk("a", "We agreed on 40 euros for the paint. Was it agreed to use 3 cans? There are 7 dogs."))
    assert [one.text for one in draft.decisions_made] == ["We agreed on 40 euros for the paint."]
    assert [one.text for one in draft.knowledge_nuggets] == ["There are 7 dogs."]


@pytest.mark.parametrize(
    ("language", "decided"),
    [
        ("de", "Wir haben beschlossen, das Haus zu streichen."),
        ("fr", "Nous avons décidé de peindre la maison."),
        ("es", "Decidimos pintar la casa vieja."),
        ("pt", "Ficou combinado pintar a casa."),
        ("it", "Abbiamo deciso di dipingere la casa."),
        ("nl", "We hebben afgesproken het huis te verven."),
        ("pl", "Postanowiliśmy pomalować dom."),
        ("ru", "Мы решили покрасить дом."),
        ("tr", "Evi boyamaya karar verdik."),
        ("ja", "家を塗ることにしました。"),
        ("zh", "我们决定粉刷房子。"),
        ("ko", "집을 칠하기로 했다."),
        ("ar", "لقد اتفقنا على طلاء المنزل."),
        ("hi", "हमने घर रंगने का फैसला किया।"),
    ],
)
def test_decisions_are_found_in_many_languages(language: str, decided: str) -> None:
    draft = extract(Material(DAY, (talk("a", decided),), language), sentences)
    assert draft.decisions_made == (Cited(decided, ("a",)),)


@pytest.mark.parametrize(
    ("language", "asked"), [("ja", "誰が買いますか？"), ("ar", "من سيشتري الطلاء؟"), ("el", "Πότε;")]
)
def test_a_question_is_known_by_its_own_mark(language: str, asked: str) -> None:
    draft = extract(Material(DAY, (talk("a", asked),), language), sentences)
    assert draft.unresolved_questions == ((Cited(asked, ("a",)),) if language != "el" else ())


def test_what_was_not_said_in_sentences_stands_for_it() -> None:
    bare = talk("a", "", title="", events=("Dinner",), action_items=(ActionItem("Buy seeds"),))
    draft = extracted(bare)
    assert (draft.headline, draft.overview) == ("Dinner. Buy seeds", "Dinner. Buy seeds")
    assert draft.highlights == (Highlight("Dinner. Buy seeds", "🗓️", "Dinner. Buy seeds", ("a",)),)
    short = extracted(talk("b", "Hi there."))
    assert short.overview == "Hi there."


def test_a_line_of_what_was_written_ends_a_sentence_and_a_heading_is_none() -> None:
    draft = extracted(
        talk("a", "What was decided:\nThe team agreed to paint the fence blue\nPaint costs 40 euros\nWho pays for it?"),
        talk("b", "議題：\n予算は四十万円に決まった\n来週また会う予定です"),
    )
    assert draft.overview == (
        "The team agreed to paint the fence blue. Paint costs 40 euros. 予算は四十万円に決まった。 来週また会う予定です"
    )
    assert draft.decisions_made == (
        Cited("The team agreed to paint the fence blue", ("a",)),
        Cited("予算は四十万円に決まった", ("b",)),
    )
    assert draft.unresolved_questions == (Cited("Who pays for it?", ("a",)),)


def test_what_was_said_may_go_on_in_the_next_line() -> None:
    spoken = talk("a", "", transcript="So we take the blue paint\nfor the old garden fence then.")
    assert extracted(spoken).overview == "So we take the blue paint for the old garden fence then."


def test_what_others_wrote_is_cleaned() -> None:
    draft = extracted(talk("a", "See <b>this</b> https://evil.example/x now, please do. \x1b[2JBye for now, friend."))
    assert draft.overview == "See this now, please do. Bye for now, friend."


def test_a_long_day_is_heard_from_its_start_to_its_end() -> None:
    """Two sentences of each of three hundred: the first of each comes before the second of any."""
    asked: list[str] = []

    def counted(text: str, language: str | None) -> list[str]:
        asked.append(text)
        return split(text, language)

    talks = tuple(
        talk(str(n), f"Alpha{n} met beta{n} about gamma{n} there. More{n} was said{n} then{n}.") for n in range(300)
    )
    draft = extract(Material(DAY, talks, None), counted)
    assert (len(asked), draft.coverage["extract"], CANDIDATES) == (300, 300, 240)
    assert all(sentence.startswith("Alpha") for sentence in SENTENCE.split(draft.overview))


@pytest.mark.parametrize(
    ("language", "text", "cut"),
    [
        ("de", "Dr. Müller kam um 3.30 Uhr. Danach gingen wir.", ["Dr. Müller kam um 3.30 Uhr.", "Danach gingen wir."]),
        ("ja", "公園に行きました。楽しかったですか？", ["公園に行きました。", "楽しかったですか？"]),
        (None, "J. Smith paid 3.5 euros. He left.", ["J. Smith paid 3.5 euros.", "He left."]),
        ("pt-BR", "Foi bom. Muito bom.", ["Foi bom.", "Muito bom."]),
        ("xx", "Uno. Dos.", ["Uno.", "Dos."]),
    ],
)
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


def test_a_word_or_two_is_no_sentence_and_twelve_letters_are() -> None:
    assert (
        extracted(talk("a", "Yes, it is. Big dogs ran. Small cats slept.")).overview
        == "Big dogs ran. Small cats slept."
    )
    assert extracted(talk("a", "公園。 It was a fine day.")).overview.startswith("公園")


def test_lists_end_and_the_longest_talks_come_first() -> None:
    said = (
        "Harbour doors number 17 altogether. Who paints every blue gate? Anna agreed to sail north.",
        "Garden roses cost 23 crowns each. Where do tulips grow best? Bruno decided against wooden fences.",
        "Kitchen tiles weigh 31 kilos together. When does our oven arrive? Carla approved those copper pans.",
        "Library shelves hold 47 atlases now. Why was that novel missing? David chose leather armchairs instead.",
        "Station clocks lost 59 seconds overnight. Which platform closes tomorrow? Elena settled on night trains.",
    )
    draft = extracted(*(talk(str(n), one, 10 * n) for n, one in enumerate(said)))
    lists = (draft.highlights, draft.unresolved_questions, draft.decisions_made, draft.knowledge_nuggets)
    assert [len(one) for one in lists] == [4, 3, 3, 3]
    assert draft.headline == "Title 4 · Title 3"
    assert len(SENTENCE.split(draft.overview)) == 4


def test_the_days_emoji_is_that_of_most_of_its_talks_and_any_where_none_is_known() -> None:
    said = "They talked for a while."
    days = [("food", "work", "work"), ("quilting", "quilting", "food"), ("",)]
    found = [extracted(*(talk(str(n), said, category=one) for n, one in enumerate(day))).day_emoji for day in days]
    assert found == ["💼", "🗓️", "🗓️"]
