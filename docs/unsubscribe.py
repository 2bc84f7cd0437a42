"""The page behind RECAP_UNSUBSCRIBE_URL. It needs the standard library alone.

For users in a data folder, beside the job and by the same settings, behind your web server's https (docs/email.md):

    RECAP_UNSUBSCRIBE_SECRET=… RECAP_DATA_DIR=.recap PORT=8009 python3 docs/unsubscribe.py

For an app, as a WSGI application: `application = unsubscribe_page(secret, address_of, end_mails)`. `secret`:
RECAP_UNSUBSCRIBE_SECRET. `address_of(uid)`: where the user's mails go now, or "". `end_mails(uid)`: deletes the user's
`recap_email`, or writes that address into `recap_unsubscribed`, where one who imports it again does not undo it.

A GET changes nothing, since mailboxes open links to look at them: it shows a button. A POST of the button, or of a
mailbox (RFC 8058: no cookie, no login, `List-Unsubscribe=One-Click` in its body), ends the mails.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, make_server

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
        start_response(status, [*HEADERS])  # a server may add to the list
        return [f"<!doctype html><meta name=viewport content=width=device-width>{body}".encode()]

    return application


class DataFolder:
    """The users of a data folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _open(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=rw", 30, uri=True, isolation_level=None))

    def address_of(self, uid: str) -> str:
        """Where the user's mails go now."""
        with self._open() as db:
            found = db.execute("SELECT doc FROM users WHERE uid = ?", (uid,)).fetchone()
        user = json.loads(found[0]) if found else {}
        address = str(user.get("recap_email") or "").strip()
        return "" if address == user.get("recap_unsubscribed") else address

    def end_mails(self, uid: str) -> None:
        """The address stays, and no mail goes to it."""
        set_it = "json_set(doc, '$.recap_unsubscribed', trim(json_extract(doc, '$.recap_email')))"
        with self._open() as db:
            db.execute(f"UPDATE users SET doc = {set_it} WHERE uid = ?", (uid,))  # noqa: S608 - ours


class Quiet(WSGIRequestHandler):
    """Logs nothing: the address of a request holds its token."""

    timeout = 10

    def log_message(self, *_: object) -> None:
        """Do nothing."""


def main() -> None:
    """Serve the page on this machine."""
    path, secret = Path(os.environ.get("RECAP_DATA_DIR", ".recap"), "recap.sqlite3"), "RECAP_UNSUBSCRIBE_SECRET"
    if not os.environ.get(secret):
        sys.exit(f"{secret} is missing; set it as for the job.")
    if not os.access(path, os.W_OK):
        sys.exit(f"{path} is not there, or not yours to write; set RECAP_DATA_DIR as for the job.")
    text = os.environ.get("PORT") or "8009"
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        sys.exit("PORT is no number of a port; set it to one from 1 to 65535.")
    users, port = DataFolder(path), int(text)
    page = unsubscribe_page(os.environ[secret], users.address_of, users.end_mails)

    def read_whole(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["wsgi.input"].read(min(1_000, int(environ.get("CONTENT_LENGTH") or 0)))  # or the answer may be cut off
        return page(environ, start_response)

    try:
        server = make_server("127.0.0.1", port, read_whole, handler_class=Quiet)
    except OSError as cause:
        taken = cause.errno == errno.EADDRINUSE
        why = "is in use by another program" if taken else f"can't be used ({cause.strerror})"
        sys.exit(f"Port {port} {why}; set PORT to another.")
    print(f"The unsubscribe page is at http://127.0.0.1:{port}/ for the users of {path}.", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
