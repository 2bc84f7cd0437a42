"""The page behind RECAP_UNSUBSCRIBE_URL, as a WSGI application for your app. It needs the standard library alone.

    application = unsubscribe_page(secret, address_of, end_mails)

`secret`: RECAP_UNSUBSCRIBE_SECRET. `address_of(uid)`: the user's `recap_email` as it is now, or "". `end_mails(uid)`:
deletes that field. A GET changes nothing, since mailboxes open links to look at them: it shows a button. A POST of the
button, or of a mailbox (RFC 8058: no cookie, no login, `List-Unsubscribe=One-Click` in its body), ends the mails.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

ASK = "<form method=post><p>Stop sending your daily recap by mail?</p><button>Unsubscribe</button></form>"
DONE, WRONG = "<p>You get no more recaps by mail.</p>", "<p>This link is no longer valid.</p>"
HEADERS = [("Content-Type", "text/html; charset=utf-8"), ("Referrer-Policy", "no-referrer")]


def unsubscribe_page(
    secret: str, address_of: Callable[[str], str], end_mails: Callable[[str], None]
) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """The application. Mount it at the path of RECAP_UNSUBSCRIBE_URL, outside your login and your CSRF check."""

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = parse_qs(environ.get("QUERY_STRING", ""))
        uid, token = query.get("uid", [""])[0], query.get("token", [""])[0]
        address = address_of(uid) if uid else ""
        signed = hmac.new(secret.encode(), f"v1|email|{uid}|{address}".encode(), hashlib.sha256).hexdigest()
        is_ours = hmac.compare_digest(signed.encode(), token.encode())
        if uid and not address:
            status, body = "200 OK", DONE  # also who presses twice
        elif not is_ours:
            status, body = "403 Forbidden", WRONG
        elif environ["REQUEST_METHOD"] != "POST":
            status, body = "200 OK", ASK
        else:
            end_mails(uid)
            status, body = "200 OK", DONE
        start_response(status, HEADERS)
        return [f"<!doctype html><meta name=viewport content=width=device-width>{body}".encode()]

    return application
