"""Mail servers on loopback: aiosmtpd with scripted answers, and one that follows a script line by line."""

# ruff: noqa: N802 - aiosmtpd names the methods
from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.servers import ThreadedServer, free_port

FAR = "127.0.0.2"  # this machine by an address that nobody calls so: the job takes it for another's
USER, PASSWORD = "ann", "p@ss/w:rd"


class MailServer:
    """An aiosmtpd. `answers`: what it says to a step (MAIL, RCPT, DATA) instead of taking it. It knows one login."""

    def __init__(
        self, host: str = "127.0.0.1", *, tls: ssl.SSLContext | None = None, smtps: bool = False, **options: Any
    ) -> None:
        self.answers: dict[str, str] = {}
        self.is_slow = False  # DATA is not answered as long as it is
        self.mails: list[tuple[str, str, bytes]] = []  # sender, recipient, content
        self.connections: list[Session] = []
        self.said: list[str] = []
        self.password = PASSWORD
        self._transports: list[asyncio.Transport] = []
        options = {"enable_SMTPUTF8": True, "authenticator": self._authenticated, **options}
        options |= {"ssl_context": tls} if smtps else {"tls_context": tls, "require_starttls": tls is not None}
        self._controller = Controller(self, hostname=host, port=free_port(), ready_timeout=20, **options)
        self._controller.start()
        self.port: int = self._controller.port
        self.url = f"{'smtps' if smtps else 'smtp'}://{host}:{self.port}"

    def stop(self) -> None:
        if self._controller.loop.is_running():
            self.hang_up()
            self._controller.stop()

    def hang_up(self) -> None:
        """Close the connections, as a server does with idle ones."""
        for transport in self._transports:
            self._controller.loop.call_soon_threadsafe(transport.abort)

    def message(self, index: int = -1) -> EmailMessage:
        return parsed(self.mails[index][2])

    def _authenticated(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any
    ) -> AuthResult:
        is_right = isinstance(given, LoginPassword) and given == LoginPassword(USER.encode(), self.password.encode())
        return AuthResult(success=is_right, handled=False)

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        self.connections.append(session)
        self._transports.append(_transport(server))
        return responses

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self._answer(server, "MAIL")

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self._answer(server, "RCPT")

    async def handle_RSET(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.said.append("RSET")
        return "250 OK"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.said.append("QUIT")
        return "221 Bye"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        while self.is_slow:  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.01)
        answer = self._answer(server, "DATA")
        if answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            assert envelope.mail_from is not None
            self.mails.append((envelope.mail_from, envelope.rcpt_tos[0], envelope.content))
        return answer

    def _answer(self, server: SMTP, step: str) -> str:
        self.said.append(step)
        answer = self.answers.get(step, "250 OK")
        if answer == "cut":
            _transport(server).abort()
        return answer


def _transport(server: SMTP) -> asyncio.Transport:
    assert isinstance(server.transport, asyncio.Transport)
    return server.transport


class ScriptedServer(ThreadedServer):
    """Greets, waits for `greets` if it is given, and answers each command by its first word; DATA's end by `.`."""

    def __init__(self, answers: Mapping[str, str], greets: asyncio.Event | None = None) -> None:
        self.answers = {"": "220 ready", "EHLO": "250 here", "QUIT": "221 bye", "DATA": "354 go", **answers}
        self.greets = greets
        self.said: list[str] = []
        self.opened = 0
        super().__init__()
        self.url = f"smtp://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        if self.greets is not None:
            await self.greets.wait()
        writer.write(f"{self.answers['']}\r\n".encode())
        in_data = False
        while read := await reader.readline():
            line = read.decode().strip()
            if in_data and line != ".":
                continue
            word = line.partition(" ")[0].upper()
            self.said.append(word)
            answer = self.answers.get(word, "250 ok")
            in_data = word == "DATA" and answer.startswith("354")
            if answer:
                writer.write(answer.replace("\n", "\r\n").encode() + b"\r\n")


def parsed(content: bytes) -> EmailMessage:
    """A mail as a strict reader takes it. Fails at anything that it would only tolerate."""
    message = BytesParser(policy=policy.SMTP.clone(raise_on_defect=True)).parsebytes(content)
    assert isinstance(message, EmailMessage)
    return message


def certificate(folder: Path, *hosts: str) -> tuple[ssl.SSLContext, Path]:
    """A server's side of TLS for these hosts, and the file by which its certificate is trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    names = [x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    trusted, both = folder / "trusted.pem", folder / "server.pem"
    trusted.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    both.write_bytes(key.private_bytes(*form) + trusted.read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, trusted
