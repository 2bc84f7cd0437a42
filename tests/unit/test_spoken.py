"""Speech, as the extract knows it."""

from __future__ import annotations

import pytest
import regex

from notifications.recap.words import TABLE, begins_with_a_pronoun, days_in, numbers_in, table_words, without_fillers

PLAIN = regex.compile(r"[\p{L}\p{M}'-]+")


@pytest.mark.parametrize(
    ("language", "text", "day"),
    [
        ("en", "We meet on Friday.", True),
        ("en", "We meet on FRIDAYS!", True),
        ("en", "We meet at five o’clock.", True),
        ("en", "We meet at five o'clock.", True),
        ("en", "The bimonthly mayor spoke.", False),
        ("en", "Nothing is planned.", False),
        (None, "We meet tomorrow.", True),
        ("tlh", "We meet tomorrow.", True),
        ("de", "Wir treffen uns übermorgen.", True),
        ("de-AT", "Im Jänner fahren wir.", True),
        ("de", "Das ist ein Tag wie jeder.", False),
        ("fr", "On se voit vendredi.", True),
        ("ja", "明日の会議は三時です。", True),
        ("tr", "Dün geldi.", True),
        ("tr", "Dünya küçük.", False),
        ("zh", "我们下周二去上海。", True),
        ("uk", "Зустріч у п’ятницю.", True),
        ("hi", "हम कल मिलेंगे।", True),
    ],
)
def test_a_day_is_named_in_the_languages_own_words(language: str | None, text: str, day: bool) -> None:
    assert bool(days_in(text, language)) is day


@pytest.mark.parametrize(
    ("language", "text", "number"),
    [
        ("en", "It costs 40.", True),
        ("en", "It costs forty euros.", True),
        ("en", "It costs seventy-nine.", True),
        ("en", "One of two came.", False),
        ("de", "Es kostet dreiundzwanzig.", True),
        ("de", "Es kostet eins.", False),
        ("hi", "इसका दाम ४० है", True),
        ("ar", "ثمنه ٤٠", True),
        ("ar", "عشرين بالشهر", True),
        ("zh", "火车票一百二十块", True),
        ("zh", "我们去上海", False),
        ("ja", "三十人が来た", True),
        ("ja", "三十五分かかる", True),
        ("ja", "一人でもう一回", False),
        ("ja", "三人でもう二回", True),
        ("zh", "忙了一天，买了一个", False),
        ("zh", "忙了三天", True),
        ("ja", "五分だけ待って、十分だよ", False),
        ("tr", "valla yüzünü gören cennetlik", False),
        ("tr", "al iki yüz, üstünü getir", True),
        ("tr", "yüzde on indirim", True),
        ("tr", "üç bin liraya aldım", True),
        ("de", "Leipzig ist die einzige, einzig", False),
        (None, "Nobody came.", False),
        ("en", "x² is no figure", False),
    ],
)
def test_a_number_is_a_figure_or_a_word_from_eleven_on(language: str | None, text: str, number: bool) -> None:
    assert bool(numbers_in(text, language)) is number


@pytest.mark.parametrize(
    ("language", "text", "begins"),
    [
        ("en", "He must answer by Monday.", True),
        ("en", "— he must answer.", True),
        ("en", "And then she left.", True),
        ("en", "But, it rained.", True),
        ("en", "Helen must answer.", False),
        ("en", "Clara said that he must.", False),
        ("de", "Er muss antworten.", True),
        ("de", "Und dann kam er.", True),
        ("de", "Erika muss antworten.", False),
        ("fr", "Ils partent demain.", True),
        ("zh", "他明天来。", True),
        ("zh", "田中明天来。", False),
        ("ja", "それは明日です。", True),
        (None, "They left.", True),
    ],
)
def test_a_sentence_that_begins_with_a_pronoun_needs_another(language: str | None, text: str, begins: bool) -> None:
    assert begins_with_a_pronoun(text, language) is begins


@pytest.mark.parametrize(
    ("language", "said", "kept"),
    [
        ("en", "Um, so the, uh, rent is due.", "so the, rent is due."),
        ("en", "the the rent is is due", "the rent is due"),
        ("en", "The, the rent is due", "The rent is due"),
        ("en", "I mean, hmm… fine", "I mean, fine"),
        ("en", "The umbrella is human.", "The umbrella is human."),
        ("en", "It takes 5 mm of uh-huh", "It takes 5 mm of uh-huh"),
        ("en", "Call 20 20 20", "Call 20 20 20"),
        ("de", "Ähm, die Miete, äh, ist fällig", "die Miete, ist fällig"),
        ("en", "Er, she is in the ER now", "she is in the ER now"),
        ("pt", "O aluguel não é caro, hum, e é alto", "O aluguel não é caro, e é alto"),
        ("fr", "Euh, le loyer euh est dû", "le loyer est dû"),
        ("ja", "えっと、家賃は金曜日です。", "家賃は金曜日です。"),
        ("zh", "嗯，房租周五交。", "房租周五交。"),
        ("ru", "Э-э, квартира", "квартира"),
        ("fr", "Donc il en manque trois, hein. Trois fenêtres.", "Donc il en manque trois. Trois fenêtres."),
        ("en", "So it is due, um, uh, eh! Well, uh? Yes", "So it is due! Well? Yes"),
        ("it", "L'ago? Ehm. Fa male?", "L'ago? Fa male?"),
        ("en", "Uh... is it due? Um, hm. Yes. Hm.", "is it due? Yes."),
        ("en", "Hm.", ""),
        ("sv", "Eh, hyran, eh, är betald", "hyran, är betald"),
        ("da", "Øh, huslejen er betalt", "huslejen er betalt"),
        ("nb", "Eh, husleien er betalt", "husleien er betalt"),
        ("de", "Das ist eh klar.", "Das ist eh klar."),
        ("ja", "家賃は、えっと。", "家賃は。"),
        (None, "", ""),
    ],
)
def test_fillers_and_doubled_words_go_and_nothing_else_changes(language: str | None, said: str, kept: str) -> None:
    assert without_fillers(said, language) == kept


def test_every_plain_word_of_the_table_is_found_in_a_sentence() -> None:
    for tag in TABLE:
        for kind, finds in (("days", days_in), ("numbers", numbers_in)):
            for word in table_words(kind, tag) if kind in TABLE[tag] else ():
                told = word.strip("*")
                if PLAIN.fullmatch(told):
                    assert finds(f"Xyz {told}, xyz.", tag), (tag, kind, word)
                    assert finds(f"{told.upper()}.", tag) or told.upper().lower() != told, (tag, kind, word)
        for word in table_words("pronouns", tag) if "pronouns" in TABLE[tag] else ():
            assert begins_with_a_pronoun(f"{word} xyz.", tag), (tag, word)
            assert begins_with_a_pronoun(f"“{word.capitalize()}”, xyz.", tag), (tag, word)


def test_nothing_is_found_where_nothing_is_said() -> None:
    for tag in [*TABLE, "tlh", ""]:
        for text in ("", "…", "Xyzq wvk."):
            found = (days_in(text, tag), numbers_in(text, tag), begins_with_a_pronoun(text, tag))
            assert not any(found), (tag, text)
        assert without_fillers("Xyzq wvk.", tag) == "Xyzq wvk."
