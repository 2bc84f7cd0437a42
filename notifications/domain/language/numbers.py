"""Numbers as people write them: 42,000 and 42.000 and 42k, in whatever digits; and amounts of money."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal

MAX_DIGITS = 30
NEVER_DECIMAL = " \u00a0\u202f'’"  # marks of thousands alone
GROUPED = re.compile(r"\d{1,3}(?:[ \u00a0\u202f'’]\d{3})+(?!\d)")  # thousands set apart by spaces
NUMBER = re.compile(r"\d+(?:[.,'’٫٬]\d+)*")
TIMES = {
    **dict.fromkeys(("k", "tsd", "tys", "thousand", "mila", "mil", "mille", "tausend", "тыс", "千"), 1_000),
    **dict.fromkeys(("m", "mio", "mln", "mn", "million", "millions", "millionen", "millones", "milhões"), 1_000_000),
    **dict.fromkeys(("milioni", "milione", "millón", "milhão", "milion", "miliony", "milionów", "млн"), 1_000_000),
    **dict.fromkeys(("bn", "mrd", "mld", "billion", "milliarden", "milliards", "miliardi", "млрд", "億", "亿"), 10**9),
    **dict.fromkeys(("万", "萬", "만"), 10_000),
    **dict.fromkeys(("lakh", "लाख"), 100_000),
    **{"हज़ार": 1_000, "हजार": 1_000, "ألف": 1_000, "آلاف": 1_000, "مليون": 1_000_000, "백만": 1_000_000, "천": 1_000},
}
TIMES["億"] = TIMES["亿"] = 10**8
TIMES["억"] = 10**8
MULTIPLIED = re.compile(rf"\s?({'|'.join(sorted(map(re.escape, TIMES), key=len, reverse=True))})(?![^\W\d_])", re.I)
UNSPACED = re.compile(r"\s?([千万萬億亿만억천])")
CURRENCIES = {
    **dict.fromkeys(("€", "eur", "euro", "euros", "евро", "ユーロ", "欧元", "يورو", "यूरो"), "eur"),
    **dict.fromkeys(("$", "usd", "dollar", "dollars", "dólares", "dollari", "ドル", "美元", "دولار", "डॉलर"), "usd"),
    **dict.fromkeys(("£", "gbp", "pound", "pounds"), "gbp"),
    **dict.fromkeys(("¥", "￥", "jpy", "cny", "yen", "yuan", "円", "元"), "yen"),  # one sign for two currencies
    **dict.fromkeys(("₹", "inr", "rupee", "rupees", "रुपये", "रुपए"), "inr"),
    **dict.fromkeys(("₽", "rub", "руб", "рубль", "рублей", "рубля"), "rub"),
    **dict.fromkeys(("zł", "pln", "złoty", "złotych", "złote"), "pln"),
    **dict.fromkeys(("₺", "try", "lira"), "try"),
    **dict.fromkeys(("chf", "franken", "francs"), "chf"),
    **{"r$": "brl", "brl": "brl", "reais": "brl", "₩": "krw", "원": "krw", "₴": "uah", "درهم": "aed", "ريال": "sar"},
}
LETTERS = re.compile(r"[^\W\d_]+")
ZEROS = "٠۰०০੦૦୦௦౦೦൦๐໐༠၀០᠐０"  # of each script that has digits of its own; nine more follow each
WESTERN = {ord(zero) + n: str(n) for zero in ZEROS for n in range(10)}
AMOUNT = re.compile(
    r"(r\$|[€$£¥￥₹₽₺₩₴]|(?<![^\W\d_])[^\W\d_]{2,8})?\s?\d[\d.,'’ \u00a0\u202f]*\s?"
    r"([€$£¥￥₹₽₺₩₴円元원]|ユーロ|ドル|欧元|美元|[^\W\d_]{2,8})?",
    re.I,
)


def western(text: str) -> str:
    """The text with every digit as 0 to 9."""
    return text if text.isascii() else text.translate(WESTERN)


def numbers(text: str) -> Iterator[tuple[frozenset[Decimal], frozenset[Decimal]]]:
    """Each number in digits: what it can mean with what multiplies it, and without. `text` has western digits."""
    at = 0
    while found := NUMBER.search(text, at):
        grouped = GROUPED.match(text, found.start())
        token = grouped if grouped and grouped.end() > found.end() else found
        at = token.end()
        bare = frozenset(_readings(token[0]))
        scale = MULTIPLIED.match(text, at) or UNSPACED.match(text, at)
        factor = TIMES.get(scale[1].casefold(), 1) if scale else 1
        yield frozenset(value * factor for value in bare), bare


def _readings(token: str) -> Iterator[Decimal]:
    """A mark before exactly three digits is one of thousands or of decimals: nobody can know."""
    token = token.translate({0x66B: ".", 0x66C: ","})[:MAX_DIGITS]
    digits = re.sub(r"\D", "", token)
    marks = re.sub(r"\d", "", token)
    if not marks.strip(NEVER_DECIMAL):
        yield Decimal(digits)
        return
    head, tail = re.split(r"\D(?=\d*$)", token)
    fraction = Decimal(f"{re.sub(r'[^0-9]', '', head)}.{tail}")
    if len(tail) != 3 or len(set(marks)) > 1 or token.startswith("0"):
        if len(marks) == 1 or marks[-1] != marks[0]:
            yield fraction.normalize()
            if len(tail) == 3 and marks[-1] != marks[0]:
                return
        else:  # 1.000.000, or 10.0.3: a version, an address
            yield Decimal(digits)
        return
    yield Decimal(digits)
    if len(marks) == 1:
        yield fraction.normalize()


def mentioned_currencies(text: str) -> frozenset[str]:
    """The currencies that a text names at all: beside digits, or beside a number in words."""
    plain = text.casefold()
    words = (CURRENCIES.get(word) for word in LETTERS.findall(plain))
    signs = (code for sign, code in CURRENCIES.items() if not sign.isascii() and len(sign) < 4 and sign in plain)
    dollars = (CURRENCIES[sign] for sign in ("$", "r$") if sign in plain)
    return frozenset(one for one in (*words, *signs, *dollars) if one)


def currencies(text: str) -> frozenset[str]:
    """The currencies of the amounts of money in a text."""
    found = (CURRENCIES.get((word or "").casefold()) for match in AMOUNT.finditer(text) for word in match.groups())
    return frozenset(one for one in found if one)
