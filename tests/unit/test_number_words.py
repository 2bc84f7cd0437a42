"""Numbers in words of every language, what is none, and all of 2 to 99 where rules can spell them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.domain.language.number_words import (
    ROWS,
    _clear,
    _clear_words,
    _numbers,
    _words,
    numbers_in_words,
)


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("forty-two, forty two", "en", [42, 42]),
        ("a hundred and five of two thousand", "en", [105, 2000]),
        ("two and three", "en", [2, 3]),
        ("two hundred thousand and seven", "en", [200_007]),
        ("three million two hundred thousand and five", "en", [3_200_005]),
        ("one dozen, once, a pair, the second, forty-second, hundreds", "en", []),
        ("half a million, 2.5 million, a few hundred", "en", []),
        ("nineteen hundred", "en", [1900]),
        ("zweiundvierzig, dreitausend, zweitausendsechsundzwanzig", "de", [42, 3000, 2026]),
        ("ein Dreieck, Achtung, einmal", "de", []),
        ("dreiundzwanzigtausendvierhundertfünf", "de", [23_405]),
        ("quarante-deux, quatre-vingt-dix-sept, soixante et onze", "fr", [42, 97, 71]),
        ("deux cents, trois cent vingt, deux mille", "fr", [200, 320, 2000]),
        ("vingt-deuxième, une fois", "fr", []),
        ("cuarenta y dos, dos mil trescientos, mil", "es", [42, 2300, 1000]),
        ("dos y tres", "es", [2, 3]),
        ("quarenta e dois, cento e vinte e cinco, dois mil", "pt", [42, 125, 2000]),
        ("quarantadue, ventuno, ventotto, ventitré, duecentottanta, duemila", "it", [42, 21, 28, 23, 280, 2000]),
        ("tu sei qui", "it", []),
        ("tweeënveertig, tweehonderd, drieduizend", "nl", [42, 200, 3000]),
        ("czterdzieści dwa, dwa tysiące trzysta, pięciu, dwóch, troje", "pl", [42, 2300, 5, 2, 3]),
        ("tysiące ludzi", "pl", []),
        ("сорок два, двумя тысячами, трёх, две тысячи пятьсот", "ru", [42, 2, 3, 2500]),
        ("двадцать пятого мая, тысячи людей", "ru", []),
        ("сорок два, п’ятдесят три, дві тисячі", "uk", [42, 53, 2000]),
        ("kırk iki, on yedi, yedi kişi, iki bin", "tr", [42, 17, 7, 2000]),
        ("yemek yedi.", "tr", []),
        ("fyrtiotvå, tjugoen, tvåhundra", "sv", [42, 21, 200]),
        ("toogfyrre, halvtreds, femoghalvfems", "da", [42, 50, 95]),
        ("førtito, tjueen, to hundre og fem", "nb", [42, 21, 205]),
        ("kaksikymmentäviisi, kolmesataa, viiden", "fi", [25, 300, 5]),
        ("čtyřicet dva, dvaadvacet, pět set, tři sta", "cs", [42, 22, 500, 300]),
        ("σαράντα δύο, δύο χιλιάδες, διακόσια", "el", [42, 2000, 200]),
        ("四十二、三千、四万二千、三人", "ja", [42, 3000, 42_000, 3]),
        ("十分、千万、一人、三、第三十回、三三", "ja", []),
        ("四十二，两个，二〇二六年，百分之二十", "zh", [42, 2, 2026, 20]),
        ("一百五十 一百零五 一百五", "zh", [150, 105]),
        ("사십이 명, 세 명, 스물다섯 살, 이백 원", "ko", [42, 3, 25, 200]),
        ("이번, 사이, 사회, 구분", "ko", []),
        ("خمسة وعشرون، مئة وخمسة، ثلاثة آلاف، بخمسة", "ar", [25, 105, 3000, 5]),
        ("עשרים וחמש, שלוש מאות, שתי", "he", [25, 300, 2]),
        ("पच्चीस, दो हज़ार, एक सौ पाँच", "hi", [25, 2000, 105]),
        ("dua puluh lima, dua belas, seribu, tiga ratus", "id", [25, 12, 1000, 300]),
        ("hai mươi lăm, một trăm năm mươi, mười hai", "vi", [25, 150, 12]),
        ("lần thứ hai, năm nay", "vi", []),
        ("two convincing second acts, the two first days", "en", [2, 2]),
        ("yirmi beşinci, iki kişi", "tr", [2]),
    ],
)
def test_numbers_in_words(text: str, language: str, expected: list[int]) -> None:
    assert numbers_in_words(text, language) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Go to the fire once, on the bin", []),
        ("forty-two", [42]),
        ("zweiundvierzig", [42]),
        ("сорок два", [42]),
        ("四十二", [42]),
        ("twenty-five and two", [25, 2]),
        ("dos and six", []),
    ],
)
def test_without_a_language(text: str, expected: list[int]) -> None:
    assert numbers_in_words(text, None) == expected
    assert numbers_in_words(text, "tlh") == expected


def _listed(ones: str, tens: str, joined: Callable[[str, str, int], str]) -> Callable[[int], str]:
    low, high = ones.split(), tens.split()

    def spell(n: int) -> str:
        if n < 20:
            return low[n]
        return joined(high[n // 10 - 2], low[n % 10], n) if n % 10 else high[n // 10 - 2]

    return spell


def _german(ten: str, one: str, n: int) -> str:
    return ("ein" if n % 10 == 1 else one) + "und" + ten


def _italian(ten: str, one: str, n: int) -> str:
    return (ten[:-1] if n % 10 in {1, 8} else ten) + ("tré" if n % 10 == 3 else one)


def _spanish(ten: str, one: str, n: int) -> str:
    if n < 30:
        accented = {"dos": "dós", "tres": "trés", "seis": "séis"}
        return "veinti" + accented.get(one, one)
    return f"{ten} y {one}"


FRENCH = (
    "zéro un deux trois quatre cinq six sept huit neuf dix onze"
    " douze treize quatorze quinze seize dix-sept dix-huit dix-neuf"
)


def _french(n: int) -> str:
    low = FRENCH.split()
    if n < 20:
        return low[n]
    if n >= 80:
        return "quatre-vingts" if n == 80 else f"quatre-vingt-{low[n - 80]}"
    ten = {2: "vingt", 3: "trente", 4: "quarante", 5: "cinquante", 6: "soixante", 7: "soixante"}[n // 10]
    rest = n - 60 if n >= 60 else n % 10
    if not rest:
        return ten
    return f"{ten} et {low[rest]}" if rest in {1, 11} else f"{ten}-{low[rest]}"


def _kanji(n: int) -> str:
    digits = "〇一二三四五六七八九"
    tens = ("" if n < 20 else digits[n // 10]) + "十" if n > 9 else ""
    return tens + (digits[n % 10] if n % 10 else "") + "人"


SPELL = {
    "en": _listed(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
        " seventeen eighteen nineteen",
        "twenty thirty forty fifty sixty seventy eighty ninety",
        lambda ten, one, n: f"{ten}-{one}",
    ),
    "de": _listed(
        "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
        "siebzehn achtzehn neunzehn",
        "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
        _german,
    ),
    "es": _listed(
        "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete"
        " dieciocho diecinueve",
        "veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa",
        _spanish,
    ),
    "it": _listed(
        "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici sedici"
        " diciassette diciotto diciannove",
        "venti trenta quaranta cinquanta sessanta settanta ottanta novanta",
        _italian,
    ),
    "pl": _listed(
        "zero jeden dwa trzy cztery pięć sześć siedem osiem dziewięć dziesięć jedenaście dwanaście trzynaście"
        " czternaście piętnaście szesnaście siedemnaście osiemnaście dziewiętnaście",
        "dwadzieścia trzydzieści czterdzieści pięćdziesiąt sześćdziesiąt siedemdziesiąt osiemdziesiąt dziewięćdziesiąt",
        lambda ten, one, n: f"{ten} {one}",
    ),
    "ru": _listed(
        "ноль один два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать тринадцать четырнадцать"
        " пятнадцать шестнадцать семнадцать восемнадцать девятнадцать",
        "двадцать тридцать сорок пятьдесят шестьдесят семьдесят восемьдесят девяносто",
        lambda ten, one, n: f"{ten} {one}",
    ),
    "fr": _french,
    "ja": _kanji,
}


@pytest.mark.parametrize("language", SPELL)
def test_spelled_numbers(language: str) -> None:
    for n in range(2, 100):
        word = SPELL[language](n)
        assert numbers_in_words(f"x {word}, x.", language) == ([] if word == "sei" else [n]), word
        assert numbers_in_words(word.title() if language != "ja" else word, language) == ([] if word == "sei" else [n])


def test_table_of_hindi_is_whole() -> None:
    from notifications.domain.language.number_words import _vocabulary

    assert set(range(1, 101)) <= set(_vocabulary("hi")[0].values())


@pytest.mark.parametrize("language", ["de", "ko", None])
@pytest.mark.parametrize(
    "part", ["drei", "two ", "zehn", "a", "三", "십", "십 ", "万", " and ", "x-", "vent", "achthundert", "خمسة و", "-"]
)
def test_hostile_text_ends(part: str, language: str | None) -> None:
    numbers_in_words((part * 200_000)[:200_000] + "x", language)


def _texts() -> st.SearchStrategy[str]:
    """Number words of every language, whole and torn, among other words, with what stands between words."""
    words = sorted({word for language in ROWS for word in _words(language)[0]})
    some = st.sampled_from(words) | st.sampled_from(words).map(lambda word: word[1:]) | st.sampled_from(["garden", "и"])
    return st.lists(st.tuples(some, st.sampled_from([" ", "-", "", " and ", ", "])), max_size=6).map(
        lambda parts: "".join(word + between for word, between in parts)
    )


@given(_texts(), st.sampled_from(sorted(ROWS)))
def test_a_clear_number_has_a_clear_word_in_its_text(text: str, language: str) -> None:
    """Texts without one are not looked at."""
    if any(_clear(number) for number in _numbers(text, language)):
        assert any(word in text for word in _clear_words(language))
