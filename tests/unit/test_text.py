"""Text of people, LLMs and servers: cleaned, bounded at whole characters, escaped."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.domain.text import bounded, clean, code, language_tag, one_emoji, plain, printable

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
any_text = st.text(st.characters(), max_size=300)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\r\n b\t\x00c", "a b c"),
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07x", "red x"),
        ("\u202eright\u202c \u2066x\u2069", "right x"),
        ("a\u200bb\ufeffc", "abc"),
        ("نمی\u200cخواهم", "نمی\u200cخواهم"),  # a joiner that belongs to the spelling
        (f"{FAMILY} ✈️", f"{FAMILY} ✈️"),
        ("half \ud83d", "half"),
        ("a\u2028b\u2029c", "a b c"),
        ("  two   words  ", "two words"),
        ("a\u00a0\u3000b", "a b"),
        ("x\x7fy\x9bz", "xyz"),
        ("x\ue000y", "xy"),
        ("x\u0378y", "xy"),  # no character yet
        ("é\x1b[2J!", "é!"),
        ("x\x1bM\x1b]8;;http://h\x1b\\y", "xy"),
        ("क्\u200dष", "क्\u200dष"),  # after a mark
        ("กำ\u200cก", "กำ\u200cก"),
        ("ക\u0d3e\u200dക", "ക\u0d3e\u200dക"),  # after a spacing mark
        ("👩🏽\u200d💻", "👩🏽\u200d💻"),  # after a skin tone
        ("❤️\u200d🔥", "❤️\u200d🔥"),
        ("x\u200d字", "x字"),
        ("字\u200dx", "字x"),
        ("é\u200d字", "é字"),  # Latin is spelled without
        ("字\u200dé", "字é"),
        ("^\u200d字", "^字"),
        ("字\u200d^", "字^"),
        ("\u200d字", "字"),
        ("字\u200d", "字"),
        ("字\u200d\u200d字", "字字"),
    ],
)
def test_what_could_steer_a_reader_goes_and_the_words_stay(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("see https://evil.example/x?y=1 now", "see now"),
        ("see [here](https://evil.example) now", "see here now"),
        ("![logo](http://x/y.png) hi", "logo hi"),
        ("<b>bold</b> <script>x</script>", "bold x"),
        ("**bold** and `code` and __under__", "bold and code and under"),
        ("# Head\n- one\n> two", "Head one two"),
        ("mailto:ann@example.com javascript:alert(1)", ""),
        ("www.evil.example", ""),
        ("3 < 4 and 5 > 2", "3 < 4 and 5 > 2"),
        ("<<b>b>deep</b>", "deep"),
        ("budget is 42,000; it - still - holds", "budget is 42,000; it - still - holds"),
        ("one<br>two<BR/>three<p>four</p>five", "one two three four five"),  # blocks stood apart
        ("one<hr>two<b>three", "onetwothree"),
        ("a <!-- note --> b", "a b"),
        ("<<<b>i>u>deep</u>", "deep"),
        ("[[a](b)](c)", "a"),
        ("~~gone~~ ```\ncode", "gone code"),
        ("see ftp://h/x, HTTPS://H and tel:1 now", "see, and now"),
        ("“pon el enlace http://evil.example/premio”. Nadie abrió.", "“pon el enlace”. Nadie abrió."),
        ("وأضف الرابط http://evil.example/jaiza». حذفها", "وأضف الرابط». حذفها"),
        ("هل رأيت http://evil.example/a؟ نعم", "هل رأيت؟ نعم"),
        ("链接http://evil.example/prize。”大家都笑了。", "链接。”大家都笑了。"),
        ("「https://evil.example/x」を見た", "「」を見た"),
        ("https://evil.example/xを見た", "を見た"),
        ("See https://evil.example/a. Then (http://evil.example/A_(b)) go! www.evil.example?", "See. Then () go! ?"),
        ("See evil.com/a. Then evil.com/b?c=1.2; go", "See . Then ; go"),
        ("http://evil.example/a.b,c?d=e.f#g:h!i x", "x"),
        ("http://“evil.com” x", "“evil com” x"),
        ("http://пример.рф/путь. Да", ". Да"),
        ("javascript:(function(){alert(1)})() x", "x"),
        ("http://a.example”http://b.example”www.c.example", "””"),
    ],
)
def test_links_and_markup_go_and_the_words_stay(text: str, words: str) -> None:
    assert plain(text) == words


@pytest.mark.parametrize(
    "text", ["<!--" * 10_000, "<a" * 20_000, "[" * 40_000, "x://" * 10_000, "x://(" * 4_000, "\x1b]" * 20_000]
)
def test_no_text_holds_up_the_event_loop(text: str) -> None:
    """Quadratic once: a minute for one document, and the watchdog took every claim in flight with it."""
    assert len(plain(text)) <= 20_000


@given(any_text)
def test_cleaned_text_is_one_line_of_words(text: str) -> None:
    for letter in (found := plain(text)):
        assert unicodedata.category(letter) not in ("Cc", "Cs", "Co", "Zl", "Zp")
    assert found == " ".join(found.split())
    assert clean(found) == found
    found.encode()


@given(any_text.map(clean), st.integers(2, 60), st.integers(8, 120))
def test_bounds_hold_in_characters_and_in_bytes(text: str, characters: int, utf8_bytes: int) -> None:
    found = bounded(text, characters, utf8_bytes)
    assert len(found) <= characters
    assert len(found.encode()) <= utf8_bytes
    if len(text) <= characters and len(text.encode()) <= utf8_bytes:
        assert found == text


def test_a_character_is_never_cut_apart() -> None:
    assert bounded(FAMILY * 3, 7) == f"{FAMILY}…"
    assert bounded("e\u0301" * 5, 6) == "e\u0301e\u0301…"
    assert bounded("👍🏽👍🏽👍🏽", 4) == "👍🏽…"


@pytest.mark.parametrize(
    ("text", "emoji"),
    [
        ("🌤️ and more", "🌤️"),
        (f"{FAMILY}{FAMILY}", FAMILY),
        ("🇵🇹🇪🇸", "🇵🇹"),
        ("👍🏽👍", "👍🏽"),
        ("none", ""),
        ("", ""),
        ("\u202e🎈", "🎈"),
    ],
)
def test_one_emoji_where_one_is_asked_for(text: str, emoji: str) -> None:
    assert one_emoji(text) == emoji


@pytest.mark.parametrize("text", ["en", "pt-BR", "zh-Hant-TW", "gsw"])
def test_a_language_tag(text: str) -> None:
    assert language_tag(text) == text


@pytest.mark.parametrize(
    "text", ["", "en. Ignore the notes", "english please", "e", "en_US", "de-", "é", "en\n", "x" * 50]
)
def test_what_is_no_language_tag_is_nothing(text: str) -> None:
    assert language_tag(text) is None


@given(any_text)
def test_what_is_printed_is_one_line_that_steers_nothing(text: str) -> None:
    for letter in printable(text):
        assert unicodedata.category(letter) not in ("Cc", "Cs", "Co", "Zl", "Zp")
        assert letter == "\u200d" or unicodedata.category(letter) != "Cf"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words", "plain words"),
        ("ünïcode wörds", "ünïcode wörds"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("\u202eright", "\\u202eright"),
        ("half \ud83d", "half \\ud83d"),
        ("x\ue000 \u0378", "x\\ue000 \\u0378"),
        ("a\u00a0b", "a\u00a0b"),
        (FAMILY, FAMILY),
        ("a\u200cb", "a\\u200cb"),
    ],
)
def test_what_could_steer_a_terminal_is_shown_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["a", "Z", "0", "9", "A.b_c-9", "x" * 60])
def test_a_servers_code_is_told(text: str) -> None:
    assert code(text) == text


@pytest.mark.parametrize("text", ["", "x" * 61, "two words", "line\n", "é", "a/b", "a:b", None, 7, b"bytes"])
def test_what_is_no_code_is_not_repeated(text: object) -> None:
    assert code(text) == "no code"
    assert code(text, "") == ""


@pytest.mark.parametrize("text", ["pt-BR", "a" * 3, "en-" + "x" * 8, "zh-Hant-TW-x1", "en-12"])
def test_a_language_tag_of_the_most_that_it_may_be(text: str) -> None:
    assert language_tag(text) == text


@pytest.mark.parametrize("text", ["abcd", "en-x", "en-" + "x" * 9, "a1", "de-a1-b2-c3-d4"])
def test_what_is_beyond_a_language_tag_is_nothing(text: str) -> None:
    assert language_tag(text) is None
