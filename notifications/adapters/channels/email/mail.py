"""One recap as a mail: headers, and the same blocks as text and as HTML."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any, NamedTuple
from urllib.parse import urlencode

from notifications.domain.phrases import DEFAULT, phrases_in
from notifications.domain.plain import plain
from notifications.domain.push import Message
from notifications.domain.text import bounded, one_emoji

# Local parts without quotes: each server reads them alike, and an SMTP command can't be ended by one.
ADDRESS = re.compile(r"([^\s\"(),:;<>@\[\\\].]+(?:\.[^\s\"(),:;<>@\[\\\].]+)*)@([\w-]{1,63}(?:\.[\w-]{1,63})+)")
MAX_LOCAL, MAX_ADDRESS = 64, 254  # octets (RFC 5321)
MAX_SUBJECT, MAX_BLOCK = 150, 2_000  # characters
MAX_HTML = 30_000  # bytes of blocks. Encoded, with the text, that stays under 100 KB, where Gmail cuts a mail off
MAX_LINK = 900  # a header that is not folded has at most 998 octets (RFC 5322)
RIGHT_TO_LEFT = ("ar", "dv", "fa", "he", "iw", "ps", "sd", "ug", "ur", "yi")
# What an inbox shows after the subject is the push's text; the filler keeps the recap out of that line.
FILLER = "&#847;&#8199;" * 80
PAGE = Template((Path(__file__).parent / "mail.html").read_text(encoding="utf-8"))


class Block(NamedTuple):
    """A piece of the mail: its HTML element (h1, h2, p, li), its class, and its text on one line."""

    element: str
    text: str
    style: str = ""


def mailbox(text: str) -> Address | None:
    """The address, with its domain in ASCII; None if it is malformed, or if IDNA 2003 makes another domain of it."""
    match = ADDRESS.fullmatch(text)
    if match is None or not text.isprintable() or len(match[1].encode()) > MAX_LOCAL:
        return None
    try:
        domain = match[2].lower().encode("ascii" if match[2].isascii() else "idna")
        address = Address(username=match[1], domain=domain.decode())
        is_same = match[2].isascii() or domain.decode("idna") == match[2].lower()
    except (UnicodeError, ValueError):
        return None
    return address if is_same and len(address.addr_spec.encode()) <= MAX_ADDRESS else None


def unsubscribe_link(url: str, secret: str, uid: str, address: str) -> str:
    """The link that ends a user's mails: the token proves that we made it for this user at this address."""
    token = hmac.new(secret.encode(), f"v1|email|{uid}|{address}".encode(), hashlib.sha256).hexdigest()
    return f"{url}{'&' if '?' in url else '?'}{urlencode({'uid': uid, 'token': token})}"


def compose(
    sender: Address, to: Address, message: Message, recap: Mapping[str, Any] | None, link: str, at: datetime
) -> bytes:
    """The mail of a recap; without one of its title and body alone. `link` ends the user's mails.

    Its Message-ID is the same at each try of a delivery, so that a mailbox can tell a mail that comes twice.
    """
    blocks = _within_size(_blocks(message, recap))
    mail = EmailMessage(policy=(SMTP if to.username.isascii() else SMTPUTF8).clone(cte_type="7bit"))
    mail["From"], mail["To"] = sender, to
    mail["Subject"] = _line(message.title, MAX_SUBJECT)
    mail["Date"] = format_datetime(at)
    mail["Message-ID"] = f"<{message.collapse_id}.{message.seq}@{sender.domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(_as_text(message, blocks, link))
    mail.add_alternative(_as_html(message, blocks, link), subtype="html")
    # Written by hand: EmailMessage folds a long URL into encoded words, which are no link to a mailbox.
    unsubscribe = f"List-Unsubscribe: <{link}>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    return (unsubscribe.encode() if len(link) <= MAX_LINK else b"") + mail.as_bytes()


def _blocks(message: Message, recap: Mapping[str, Any] | None) -> Iterator[Block]:
    day = Block("p", message.date.isoformat(), "day")
    if recap is None:
        yield from (Block("h1", message.title), day, Block("p", message.body))
        return
    headline = _headed(recap["day_emoji"], recap["headline"]) if recap["headline"] else message.title
    yield from (Block("h1", headline), day, Block("p", recap["overview"]))
    for highlight in recap["highlights"]:
        yield Block("h2", _headed(highlight["emoji"], highlight["topic"]))
        yield from (Block("li", item["text"]) for item in highlight["items"])
    for name, heading in phrases_in(message.language).mail.items():
        if recap.get(name):
            yield Block("h2", heading, "ours")
            yield from (_listed(item) for item in recap[name])


def _headed(emoji: str, text: str) -> str:
    return f"{one_emoji(emoji)} {text}"


def _listed(item: Mapping[str, Any]) -> Block:
    if "description" not in item:
        return Block("li", item["text"])
    return Block("li", f"{'☑' if item['completed'] else '☐'} {item['description']}", "task")


def _within_size(blocks: Iterable[Block]) -> list[Block]:
    """The first blocks, cleaned and cut once more: a store's text may be anybody's."""
    kept: list[Block] = []
    size = 0
    for found in blocks:
        block = found._replace(text=_line(found.text, MAX_BLOCK))
        size += len(_element(block).encode())
        if size > MAX_HTML:
            break
        kept += [block] if block.text else []
    return kept


def _line(text: str, length: int) -> str:
    return bounded(plain(text, 2 * length), length)


def _as_text(message: Message, blocks: Sequence[Block], link: str) -> str:
    lines: list[str] = []
    for block in blocks:
        bullet = "- " if block.element == "li" and not block.style else ""
        lines += [bullet + block.text] if block.element == "li" or block.style == "day" else ["", block.text]
    lines += ["", f"{phrases_in(message.language).mail['unsubscribe']}: {link}", ""]
    return "\n".join(lines).lstrip()


def _as_html(message: Message, blocks: Sequence[Block], link: str) -> str:
    language = message.language or DEFAULT
    lines: list[str] = []
    for is_list, group in groupby(blocks, lambda block: block.element == "li"):
        elements = "\n".join(map(_element, group))
        lines.append(f"<ul>\n{elements}\n</ul>" if is_list else elements)
    return PAGE.substitute(
        lang=escape(language),
        dir="rtl" if language.partition("-")[0].lower() in RIGHT_TO_LEFT else "ltr",
        title=escape(_line(message.title, MAX_SUBJECT)),
        preview=escape(_line(message.body, MAX_SUBJECT)),
        filler=FILLER,
        blocks="\n".join(lines),
        link=escape(link),
        unsubscribe=escape(phrases_in(message.language).mail["unsubscribe"]),
    )


def _element(block: Block) -> str:
    """What is ours has the page's direction, and each text of the recap its own."""
    style = f' class="{block.style}"' if block.style else ""
    direction = "" if block.style in ("day", "ours") else ' dir="auto"'
    return f"<{block.element}{style}{direction}>{escape(block.text)}</{block.element}>"
