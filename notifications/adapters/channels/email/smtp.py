"""Mails by SMTP to one relay: connections that stay open, and what the relay's answers mean."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from aiosmtplib import SMTP, SMTPException, SMTPResponseException

from notifications.domain.push import ACCEPTED, PushAnswer, PushResult
from notifications.domain.text import LOOPBACK

CONNECTIONS, MAILS_A_CONNECTION = 4, 100
STEP_SECONDS = 20.0  # for one answer of the relay while a connection is opened
GREYLISTED = (timedelta(minutes=5), timedelta(minutes=15), timedelta(minutes=30))  # after "not yet", one by one
FAULTS = (SMTPException, OSError)  # all that aiosmtplib raises for what a server or a network does


def _ours(says: str) -> PushAnswer:
    return PushAnswer(PushResult.BUSY, config=True, says=says)


def _pause(minutes: int) -> PushAnswer:
    return PushAnswer(PushResult.BUSY, quota=True, retry_after=timedelta(minutes=minutes))


LOGIN = _ours("refuses our login; check the user and the password in RECAP_SMTP_URL")
SENDER = _ours("refuses our sender; it must be allowed to send as RECAP_EMAIL_FROM")
CONNECTION = _ours("refuses our connection; check RECAP_SMTP_URL, and whether it serves this machine")
CERTIFICATE = _ours("has no certificate that can be verified; check the host in RECAP_SMTP_URL")
NO_TLS = _ours("offers no STARTTLS, or no login that we know; write smtps:// and its port into RECAP_SMTP_URL")
REFUSED, NOT_YET = PushAnswer(PushResult.REFUSED), PushAnswer(PushResult.BUSY, retry_after=GREYLISTED[0])
# What an answer means: the first row that fits "step code enhanced-code" (RFC 5321, RFC 3463). The steps are OPEN
# (connecting, EHLO, STARTTLS, AUTH), MAIL, RCPT and DATA; only from DATA on a mail may be delivered.
ANSWERS = [
    (r"\w+ 53[0458] .*", LOGIN),
    (r"RCPT 454 4\.7\.1", LOGIN),  # how Postfix defers who may not relay
    (r"\w+ (421|454) .*", _pause(1)),
    (r"\w+ 5\d\d 5\.4\.5", _pause(30)),  # the day's mails are used up
    (r"\w+ 45[0-2] .*", NOT_YET),
    (r"\w+ 4\d\d .*", PushAnswer(PushResult.BUSY)),
    (r"OPEN 5\d\d .*", CONNECTION),
    (r"MAIL (552 .*|5\d\d 5\.(2\.3|3\.4))", REFUSED),  # this mail is too large
    (r"MAIL 5\d\d .*", SENDER),
    (r"DATA 5\d\d 5\.7\.60", SENDER),  # Exchange, which reads the header
    (r"(RCPT|DATA) 5\d\d 5\.1\.10?", PushAnswer(PushResult.GONE)),
    (r"\w+ 5\d\d .*", REFUSED),
]
# Ten such refusals in a row are about us: policy, or no reason given (SES, of a sender that is not verified).
POLICY = _ours("refuses ten mails in a row; check RECAP_EMAIL_FROM: that it is verified there, SPF, DKIM, reputation")
POLICY_CODES, MAX_POLICY = re.compile(r"(?!552)5\d\d(_5\.[057]\.\d+)?"), 10


def interpret(step: str, code: int, text: str) -> PushAnswer:
    """What an answer of the relay means. Its text, which often has the address, is in nothing that is returned."""
    enhanced = re.match(rf"{code // 100}\.\d{{1,3}}\.\d{{1,3}}\b|", text)
    said = f"{code} {enhanced[0] if enhanced else ''}"
    answers = (answer for pattern, answer in ANSWERS if re.fullmatch(pattern, f"{step} {said}"))
    return named(next(answers, _unanswered(step, "")), said.strip().replace(" ", "_"))  # SMTP may not know it


def named(answer: PushAnswer, name: str) -> PushAnswer:
    """The answer with its code, also in what it says."""
    return replace(answer, code=name, says=answer.says and f"{answer.says} ({name})")


def _unanswered(step: str, name: str) -> PushAnswer:
    return PushAnswer(PushResult.UNKNOWN if step == "DATA" else PushResult.UNSENT, name)


def not_opened(error: Exception) -> PushAnswer:
    """What it means that a connection could not be opened."""
    cause = error.__cause__ or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return replace(CERTIFICATE, code="CERTIFICATE")
    if isinstance(error, SMTPResponseException):
        return interpret("OPEN", error.code, error.message)
    is_network = isinstance(error, OSError)
    return _unanswered("OPEN", type(cause).__name__) if is_network else replace(NO_TLS, code="NO_TLS_OR_LOGIN")


class Relay:
    """The relay and our login there. Beyond this machine nothing is said to it without TLS and its certificate."""

    def __init__(self, url: str, helo: str) -> None:
        """`helo`: the domain by which we greet."""
        parts = urlsplit(url)
        is_far = parts.hostname not in LOOPBACK
        self._options: dict[str, Any] = {
            "hostname": parts.hostname,
            "port": parts.port,  # else 465, 587, or on this machine 25
            "username": unquote(parts.username) if parts.username else None,
            "password": unquote(parts.password) if parts.password else None,
            "use_tls": parts.scheme == "smtps",
            "start_tls": True if is_far and parts.scheme == "smtp" else None,
            "validate_certs": is_far,
            "local_hostname": helo,
        }

    async def open(self) -> SMTP:
        """A connection, encrypted and logged in. Raises FAULTS."""
        smtp = SMTP(timeout=STEP_SECONDS, **self._options)
        try:
            await smtp.connect()
            if smtp.is_ehlo_or_helo_needed:
                await smtp.noop()  # says EHLO first, or HELO
        except BaseException:  # cancellation too: a connection that is half open is nobody's
            smtp.close()
            raise
        smtp.timeout = None  # the mail's own ends a step: on 3.11 wait_for loses a cancellation that meets an answer
        return smtp


async def sender_refused(smtp: SMTP, sender: str) -> PushAnswer | None:
    """What it means that the relay refuses our sender; None if it takes it. No mail is begun. Raises FAULTS."""
    try:
        await smtp.mail(sender, timeout=STEP_SECONDS)
        await smtp.rset(timeout=STEP_SECONDS)
    except SMTPResponseException as refusal:
        return interpret("MAIL", refusal.code, refusal.message)
    return None


async def end(smtp: SMTP) -> None:
    """Say QUIT, and close the connection."""
    try:
        with suppress(*FAULTS):
            await smtp.quit(timeout=2)
    finally:
        smtp.close()


class MailConnection:
    """One connection at a time, opened in a task of its own: if a mail's time is up, it serves the next one."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._opening: asyncio.Task[SMTP] | None = None
        self._mails = 0
        self._must_reset = False  # it holds the envelope of a mail that was refused

    async def send(self, sender: str, recipient: str, mail: bytes, leaves: Callable[[], None]) -> PushAnswer:
        """Send one mail. A connection that has died in the meantime is replaced, as long as nothing was sent."""
        while True:
            try:
                smtp = await self._connected()
            except FAULTS as error:
                return not_opened(error)
            self._mails += 1
            answer = await self._say(smtp, sender, recipient, mail, leaves)
            if smtp.is_connected or self._mails == 1 or answer.result not in (PushResult.UNSENT, PushResult.BUSY):
                return answer

    async def _connected(self) -> SMTP:
        if self._opening and self._opening.done():
            failed = self._opening.cancelled() or self._opening.exception()
            if failed or not self._opening.result().is_connected or self._mails >= MAILS_A_CONNECTION:
                await self.aclose()
        if self._opening is None:
            self._mails, self._must_reset = 0, False
            self._opening = asyncio.create_task(self._relay.open())
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())  # it may be nobody's
        return await asyncio.shield(self._opening)

    async def _say(
        self, smtp: SMTP, sender: str, recipient: str, mail: bytes, leaves: Callable[[], None]
    ) -> PushAnswer:
        utf8, most = not recipient.isascii(), smtp.esmtp_extensions.get("size", "0")
        if utf8 and not smtp.supports_extension("smtputf8"):
            return replace(REFUSED, code="NO_SMTPUTF8")
        if most.isdecimal() and 0 < int(most) < len(mail):
            return replace(REFUSED, code="TOO_LARGE")
        encoding, options = ("utf-8", ["SMTPUTF8"]) if utf8 else ("ascii", [])
        step = "MAIL"
        try:
            if self._must_reset:
                await smtp.rset()
            self._must_reset = True
            await smtp.mail(sender, options=options, encoding=encoding)
            step = "RCPT"
            await smtp.rcpt(recipient, encoding=encoding)
            step = "DATA"
            leaves()
            await smtp.data(mail)
            self._must_reset = False
            return ACCEPTED
        except SMTPResponseException as refusal:
            if refusal.code < 400 or refusal.code == 421 or refusal.message.startswith("4.4.2"):  # it has hung up
                smtp.close()
            return interpret(step, refusal.code, refusal.message)
        except FAULTS as error:
            smtp.close()
            return _unanswered(step, type(error).__name__)
        except BaseException:  # cancellation too: an answer that comes now would be taken for the next mail's
            smtp.close()
            raise

    async def aclose(self) -> None:
        """Close the connection, or stop opening it."""
        opening, self._opening = self._opening, None
        if opening:
            opening.cancel()
            await asyncio.wait([opening])
            if not opening.cancelled() and not opening.exception():
                await end(opening.result())
