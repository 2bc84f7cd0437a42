"""Text without links and markup: phones make links of what looks like one, and no recap shows any."""

from __future__ import annotations

import re

from notifications.domain.text import clean

# A link ends before a space, a closing quote or bracket, Chinese and Japanese, and the marks of a sentence's end.
IN_A_LINK = r'[^\s<>"()«»‘-‟‹›…،؛؟۔।॥\u3001-\u30ff\u3400-\u9fff\uff01-\uff65]'
BRACKETED = rf"\({IN_A_LINK}*\)"
LINKED = rf"(?:(?:{BRACKETED}|{IN_A_LINK})*(?:{BRACKETED}|(?![.,;:!?'*|\]}}]){IN_A_LINK}))"
# Only the letters' own groups ignore case: with the whole pattern the wide ranges cost some 10 ms of every start.
LINK = re.compile(
    rf"(?:(?<=\w) )?(?:(?:(?i:[a-z][a-z0-9+.-]{{1,20}}://)|(?i:www\.|\b(?:mailto|tel):)(?=\S)){LINKED}?"
    r"|\b(?i:javascript|data):\S+)"
)
MARKDOWN_LINK = re.compile(r"!?\[([^\[\]]{0,400})\]\((?:[^()]|\([^()]{0,200}\)){0,2000}\)?")
# Phones make links of bare domains: one with a path is removed, one without loses its dots.
DOMAIN = re.compile(rf"(?<![\w@.-])((?:[\w-]{{1,63}}[.。．｡]){{1,8}})((?i:[a-z]{{2,24}}))(?![\w-])([/?#:]{LINKED}?)?")
DOTS = re.compile(r"[.。．｡]")
TOP_LEVEL_NAMES = """
    com net org info biz edu gov mil int app dev xyz online site shop store top club live pro tech page link click
    cloud work world today news blog wiki example test invalid onion zip mov icu vip bid loan win fun space website
    host press agency email rocks guru ac ad ae ai al am at au az ba be bg br by ca cc ch ci cl cn co cz de dk ee es
    eu fi fr ge gg gl gr hk hr hu id ie il im in io ir is it jp ke kr kz la li lt lu lv ly ma md me mk ms mx my ng
    nl no nu nz ph pk pl pt pw ro rs ru sa se sg sh si sk so st su th tk tl to tr tv tw ua ug uk us uz vc ve vn ws
    za
"""
TOP_LEVEL = frozenset(TOP_LEVEL_NAMES.split())
TAG = re.compile(r"<[/!?]?[a-zA-Z][^<>]{0,2000}>|<!--[^<>]{0,2000}-->")
MAX_PLAIN = 20_000  # characters that `plain` reads
BLOCK = re.compile(r"</?(?:br|p|div|li|tr|td|h\d)\b", re.IGNORECASE)  # these tags separate lines
MARKDOWN = re.compile(r"(?m)^\s{0,3}(?:#{1,6}\s+|>\s+|[-*+]\s+|```.*$)|\*\*|__|~~|`+")


def plain(text: str, length: int = MAX_PLAIN) -> str:
    """The first `length` characters of the text, cleaned, without links and markup."""
    text = text[:length]
    for _ in range(3 if "<" in text or "](" in text else 0):  # they may be nested
        text = MARKDOWN_LINK.sub(r"\1", TAG.sub(lambda tag: " " if BLOCK.match(tag[0]) else "", text))
    text = clean(MARKDOWN.sub("", text))
    if ":" in text or "www." in text.lower():  # every link has one of them; the pattern is slow
        text = LINK.sub(_gap, text)
    return " ".join(DOMAIN.sub(_no_link, text).split())


def _gap(link: re.Match[str]) -> str:
    """What replaces a link: a space, but none before punctuation."""
    following = link.string[link.end() : link.end() + 1]
    return " " if following in " :" or following.isalnum() else ""


def _no_link(domain: re.Match[str]) -> str:
    """What replaces a domain: a space if it has a path, else its name without dots, which phones do not link."""
    names, top, path = domain[1], domain[2], domain[3]
    real = top in TOP_LEVEL or (top.isupper() and top.lower() in TOP_LEVEL)
    if not real:
        return domain[0]
    return " " if path and len(path) > 1 else DOTS.sub(" ", names) + top + (path or "")
