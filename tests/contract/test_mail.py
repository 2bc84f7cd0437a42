"""The mail itself: its headers, its two parts, hostile texts, and the link that ends it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import getaddresses, parseaddr
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiosmtplib.email import parse_address
from hypothesis import given
from hypothesis import strategies as st

from docs.unsubscribe import unsubscribe_page
from notifications.adapters.channels.email import connect
from notifications.adapters.channels.email.mail import ADDRESS, compose, mailbox, unsubscribe_link
from notifications.domain.phrases import PHRASES
from notifications.domain.push import TTL, Message
from tests.support.hostile import hostile
from tests.support.mail_servers import parsed

AT = datetime(2026, 5, 1, 20, tzinfo=UTC)
MESSAGE = Message("ann", date(2026, 5, 1), "ab" * 16, "🏡 Roof settled", "The roof.", "id", AT, AT + TTL, language="en")
SENDER = Address("Recap, daily", addr_spec="recap@example.org")
TO = Address(addr_spec="bob@example.com")
PAGE, SECRET = "https://app.example.org/unsubscribe", "s" * 32
LINK = unsubscribe_link(PAGE, SECRET, "ann", "bob@example.com")
RECAP: dict[str, Any] = {
    "headline": "Roof settled",
    "overview": "You settled the roof with Marta.",
    "day_emoji": "🏡",
    "highlights": [{"topic": "The roof", "emoji": "🏠", "items": [{"text": "8,400 euros."}, {"text": "From 18 May."}]}],
    "action_items": [
        {"description": "Send the offer", "completed": False},
        {"description": "Call Ben", "completed": True},
    ],
    "decisions_made": [{"text": "Marta does it."}],
    "unresolved_questions": [{"text": "Who pays?"}],
    "knowledge_nuggets": [{"text": "Slate lasts."}],
}
TEXT = """\
🏡 Roof settled
2026-05-01

You settled the roof with Marta.

🏠 The roof
- 8,400 euros.
- From 18 May.

To do
☐ Send the offer
☑ Call Ben

Decisions
- Marta does it.

Open questions
- Who pays?

Good to know
- Slate lasts.

Unsubscribe: """
VOID = {"meta", "br", "img", "link"}


def mail_of(recap: dict[str, Any] | None = RECAP, message: Message = MESSAGE, to: Address = TO) -> EmailMessage:
    return parsed(compose(SENDER, to, message, recap, LINK, AT))


def part(mail: EmailMessage, kind: str) -> str:
    found = mail.get_body((kind,))
    assert found is not None
    return str(found.get_content()).replace("\r\n", "\n")


class Page(HTMLParser):
    """The elements, attributes and texts of the HTML part. Fails where tags are not closed in their order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def named(self, *names: str) -> list[str]:
        return [text for tag, text in self.texts if tag in names]


def test_the_text_part_is_the_recap_line_by_line() -> None:
    assert part(mail_of(), "plain") == f"{TEXT}{LINK}\n"


def test_the_html_part_has_the_same_words_in_the_same_order() -> None:
    page = Page(part(mail_of(), "html"))
    words = [line.removeprefix("- ") for line in TEXT.splitlines() if line]
    assert page.named("h1", "h2", "p", "li", "a") == [*words[:-1], "Unsubscribe"]


def test_without_the_stored_text_the_title_and_the_body_are_sent() -> None:
    mail = mail_of(None)
    assert part(mail, "plain") == f"🏡 Roof settled\n2026-05-01\n\nThe roof.\n\nUnsubscribe: {LINK}\n"
    assert Page(part(mail, "html")).named("h1", "h2", "p", "li") == ["🏡 Roof settled", "2026-05-01", "The roof."]


def test_a_recap_with_nothing_but_an_overview_has_no_empty_headings() -> None:
    empty: dict[str, Any] = {name: [] for name, value in RECAP.items() if isinstance(value, list)}
    mail = mail_of({**RECAP, **empty, "headline": "", "day_emoji": ""})
    text = "🏡 Roof settled\n2026-05-01\n\nYou settled the roof with Marta.\n\nUnsubscribe: "
    assert part(mail, "plain") == f"{text}{LINK}\n"
    assert Page(part(mail, "html")).named("h2") == []


def test_an_inbox_shows_the_push_before_anything_of_the_recap() -> None:
    message = replace(MESSAGE, title="Your daily recap", body="Your recap is ready.")
    page = Page(part(mail_of(message=message), "html"))
    first = next(text for tag, text in page.texts if tag == "div")
    assert first.startswith("Your recap is ready.\u034f")
    assert len(first) > 150
    assert (mail_of(message=message)["Subject"], page.named("title")) == ("Your daily recap", ["Your daily recap"])


def test_the_headers_are_those_of_an_automatic_mail() -> None:
    mail = mail_of()
    assert {name: str(value) for name, value in mail.items() if name not in ("Content-Type",)} == {
        "List-Unsubscribe": f"<{LINK}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "From": '"Recap, daily" <recap@example.org>',
        "To": "bob@example.com",
        "Subject": "🏡 Roof settled",
        "Date": "Fri, 01 May 2026 20:00:00 +0000",
        "Message-ID": f"<{'ab' * 16}.1@example.org>",
        "Auto-Submitted": "auto-generated",
        "MIME-Version": "1.0",
    }
    assert [str(one.get_content_type()) for one in mail.iter_parts()] == ["text/plain", "text/html"]


def test_a_second_delivery_has_an_id_of_its_own_and_a_second_try_has_not() -> None:
    again = mail_of(message=replace(MESSAGE, seq=2))
    assert (mail_of()["Message-ID"] == mail_of()["Message-ID"], again["Message-ID"]) == (
        True,
        f"<{'ab' * 16}.2@example.org>",
    )


def test_each_line_is_short_and_ascii_and_the_link_is_on_one() -> None:
    content = compose(SENDER, TO, MESSAGE, RECAP, LINK, AT)
    lines = content.split(b"\r\n")
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert max(len(line) for line in lines) <= 998
    assert all(len(line) <= 78 for line in lines if not line.startswith(b"List-"))
    assert content.isascii()
    assert lines[0] == f"List-Unsubscribe: <{LINK}>".encode()


def test_a_link_that_fits_in_no_header_is_in_the_mail_alone() -> None:
    long = unsubscribe_link(PAGE, SECRET, "u" * 1_000, "bob@example.com")
    mail = parsed(compose(SENDER, TO, MESSAGE, RECAP, long, AT))
    assert "List-Unsubscribe" not in mail
    assert long in part(mail, "plain")


@pytest.mark.parametrize("language", [*PHRASES, "he", "fa", "ur", "xx", None])
def test_a_page_has_its_language_and_direction_and_each_text_its_own(language: str | None) -> None:
    page = Page(part(mail_of(message=replace(MESSAGE, language=language)), "html"))
    html = dict(page.tags)["html"]
    is_rtl = language in ("ar", "he", "fa", "ur")
    assert html == {"lang": language or "en", "dir": "rtl" if is_rtl else "ltr"}
    ours = set(PHRASES.get(language or "en", PHRASES["en"]).mail.values())
    texts = [attrs for tag, attrs in page.tags if tag in ("h1", "li") or (tag == "p" and not attrs.get("class"))]
    assert [attrs for attrs in texts[:-1] if attrs.get("dir") != "auto"] == []
    assert set(page.named("h2", "a")) - {"🏠 The roof"} == ours


def test_each_language_has_each_word() -> None:
    assert {language: sorted(phrases.mail) for language, phrases in PHRASES.items()} == dict.fromkeys(
        PHRASES, sorted(PHRASES["en"].mail)
    )


NASTY = [
    "Head\r\nBcc: eve@x.test\r\n\r\nbody",
    "<script>alert(1)</script><b>bold</b>",
    "</p></main><img src=http://evil.example/t.gif>",
    "see http://evil.example/x and evil.com or [this](https://evil.example)",
    "\u202eevil\u2066\u200f\ufeff text",
    "nul \x00 bell \x07 escape \x1b[31m end",
    "lone \ud800 surrogate \udfff",
    '" onload="x" & < > \' &amp; $blocks ${link} {0} %s =?utf-8?q?x?=',
    "x" * 5_000_000,
    "\u0661" * 50_000 + " \u0645\u0631\u062d\u0628\u0627",
    "." + "\r\n.\r\n" * 10,
    "",
]


@pytest.mark.parametrize("text", NASTY, ids=lambda text: repr(text[:20]))
def test_a_hostile_text_stays_a_text(text: str) -> None:
    items = [{"text": text}] * 100
    recap = {
        **dict.fromkeys(("headline", "overview", "day_emoji"), text),
        "highlights": [{"topic": text, "emoji": text, "items": items}] * 20,
        "action_items": [{"description": text, "completed": text}] * 100,
        **dict.fromkeys(("decisions_made", "unresolved_questions", "knowledge_nuggets"), items),
    }
    content = compose(SENDER, TO, replace(MESSAGE, title=text, body=text), recap, LINK, AT)
    assert len(content) < 100_000
    mail = parsed(content)
    assert [name for name in mail if name.lower() not in HEADERS] == []
    page, plain = Page(part(mail, "html")), part(mail, "plain")
    assert {tag for tag, _ in page.tags} <= TAGS
    links = [attrs.get("href") or attrs.get("src") for _, attrs in page.tags if attrs.keys() & {"href", "src"}]
    assert links == [LINK]
    assert {name for _, attrs in page.tags for name in attrs if name.startswith("on")} == set()
    shown = "".join(page.named("h1", "h2", "p", "li", "title")) + str(mail["Subject"]) + plain.replace(LINK, "")
    assert hostile(shown.replace("\n", "").replace("\r", "")) == []


HEADERS = {
    *("list-unsubscribe", "list-unsubscribe-post", "from", "to", "subject", "date", "message-id"),
    *("auto-submitted", "mime-version", "content-type"),
}
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "div", "main", "h1", "h2", "p", "ul", "li", "footer", "a"),
}


@given(st.text(st.characters(codec=None), max_size=120), st.text(st.characters(codec=None), max_size=120))
def test_any_text_makes_a_mail_that_a_strict_reader_takes(title: str, text: str) -> None:
    recap = {**RECAP, "headline": title, "overview": text, "unresolved_questions": [{"text": title}, {"text": text}]}
    content = compose(SENDER, TO, replace(MESSAGE, title=title, body=text), recap, LINK, AT)
    mail = parsed(content)
    old = BytesParser(policy=policy.compat32).parsebytes(content)  # the library's other, older reader
    assert [name for name in old if name.lower() not in HEADERS] == []
    assert "\n" not in str(mail["Subject"])
    Page(part(mail, "html"))


GOOD = [
    ("bob@example.com", "bob@example.com"),
    ("Bob.O'Hara+recap@Example.COM", "Bob.O'Hara+recap@example.com"),
    ("a/b=c%d!e|f{g}~`#$&*?^_-@x.org", "a/b=c%d!e|f{g}~`#$&*?^_-@x.org"),
    ("bob@münchen.example", "bob@xn--mnchen-3ya.example"),
    ("bob@BÜCHER.example", "bob@xn--bcher-kva.example"),
    ("bob@xn--strae-oqa.example", "bob@xn--strae-oqa.example"),
    ("jürgen@example.com", "jürgen@example.com"),
    ("用户@例子.example", "用户@xn--fsqu00a.example"),
    ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
]
BAD = [
    *("", "bob", "bob@", "@example.com", "bob@localhost", "a@b@c.org", "bob @example.com", " bob@example.com"),
    *("bob@example.com\r\nRCPT TO:<eve@x.org>", "bob@example.com>", "<bob@example.com>", "bob@[127.0.0.1]"),
    *('"bob"@example.com', ".bob@example.com", "bob.@example.com", "b..b@example.com", "bob@example..com"),
    *("bob@-.com\x00", "bob\u202e@example.com", "bob@exa\u200bmple.com", "bob,eve@example.com", "a:b;@example.com"),
    *("a" * 65 + "@example.com", "ü" * 33 + "@example.com", "bob@" + "a" * 64 + ".com", "b@" + "a." * 130 + "com"),
    *("bob@straße.example", "bob@faß.de", "bob\ud800@example.com", "bob@\ud800.com", "Bob <bob@example.com>"),
]


@pytest.mark.parametrize(("text", "address"), GOOD)
def test_an_address_is_taken_with_its_domain_in_ascii(text: str, address: str) -> None:
    found = mailbox(text)
    assert found is not None
    assert found.addr_spec == address
    assert parse_address(address) == address
    content = compose(SENDER, found, MESSAGE, None, LINK, AT).replace(b"\r\nTo:\r\n ", b"\r\nTo: ")
    assert f"\r\nTo: {address}\r\n".encode() in content


@pytest.mark.parametrize("text", BAD, ids=repr)
def test_what_is_no_address_or_could_be_another_is_refused(text: str) -> None:
    assert mailbox(text) is None


@given(st.from_regex(ADDRESS, fullmatch=True))
def test_an_address_that_is_taken_is_one_for_every_reader(text: str) -> None:
    found = mailbox(text)
    if found is not None:
        assert parse_address(found.addr_spec) == found.addr_spec
        assert parseaddr(found.addr_spec)[1] == found.addr_spec
        assert getaddresses([str(found)]) == [("", found.addr_spec)]


@pytest.mark.parametrize(
    ("setting", "header"),
    [
        ("recap@example.org", "recap@example.org"),
        ("Recap <recap@example.org>", "Recap <recap@example.org>"),
        ('"Recap, daily" <recap@example.org>', '"Recap, daily" <recap@example.org>'),
        ("Rückblick <recap@example.org>", "Rückblick <recap@example.org>"),
    ],
)
def test_the_senders_name_is_quoted_where_it_must_be(setting: str, header: str) -> None:
    sender = connect("smtp://localhost", setting, PAGE, SECRET)._sender
    assert str(parsed(compose(sender, TO, MESSAGE, None, LINK, AT))["From"]) == header


class App:
    """The app's side: one user with an address, and the page of docs/unsubscribe.py."""

    def __init__(self) -> None:
        self.addresses = {"ann": "bob@example.com"}
        self.page = unsubscribe_page(SECRET, lambda uid: self.addresses.get(uid, ""), self.addresses.__delitem__)

    def asks(self, link: str, method: str = "GET") -> tuple[str, str]:
        said: list[str] = []
        environ = {"REQUEST_METHOD": method, "QUERY_STRING": urlsplit(link).query}
        body = b"".join(self.page(environ, lambda status, headers: said.append(status)))
        return said[0], body.decode()


def test_a_look_at_the_link_changes_nothing_and_a_post_ends_the_mails() -> None:
    app = App()
    status, body = app.asks(LINK)
    assert (status, "<form method=post>" in body, app.addresses) == ("200 OK", True, {"ann": "bob@example.com"})
    status, body = app.asks(LINK, "POST")
    assert (status, "no more recaps" in body, app.addresses) == ("200 OK", True, {})
    assert app.asks(LINK, "POST")[0] == "200 OK"


@pytest.mark.parametrize(
    "link",
    [
        PAGE,
        f"{PAGE}?uid=ann",
        f"{PAGE}?uid=ann&token=",
        LINK[:-1],
        f"{LINK}0",
        LINK.replace("token=", "token=é"),
        unsubscribe_link(PAGE, "t" * 32, "ann", "bob@example.com"),
        unsubscribe_link(PAGE, SECRET, "ann", "old@example.com"),
        unsubscribe_link(PAGE, SECRET, "eve", "bob@example.com").replace("uid=eve", "uid=ann"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_link_that_we_did_not_make_for_this_address_ends_nothing(link: str, method: str) -> None:
    app = App()
    assert app.asks(link, method)[0] == "403 Forbidden"
    assert app.addresses == {"ann": "bob@example.com"}


def test_a_link_keeps_the_query_of_the_setting_and_names_the_user_as_it_is() -> None:
    link = unsubscribe_link("https://x.org/u?from=mail", SECRET, "a&b=c/ü |", "bob@example.com")
    query = parse_qs(urlsplit(link).query)
    assert (query["from"], query["uid"], link.isascii()) == (["mail"], ["a&b=c/ü |"], True)
    assert re.fullmatch(r"[0-9a-f]{64}", query["token"][0])
    assert "bob" not in link


def test_the_example_has_no_import_of_ours() -> None:
    assert "notifications" not in (Path(__file__).parents[2] / "docs/unsubscribe.py").read_text(encoding="utf-8")
