"""Google's own servers as far as a run asks them: tokens, the metadata server, and Firestore over TLS by its name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.support.between import Between, Refusal
from tests.support.servers import ThreadedServer, pump
from tests.support.web import LoopbackServer

FIRESTORE = "firestore.googleapis.com"
ACCOUNTS = "computeMetadata/v1/instance/service-accounts/"  # then `default`, or its e-mail address
UNAUTHENTICATED: Refusal = (grpc.StatusCode.UNAUTHENTICATED, "no")


class TokenServer(LoopbackServer):
    """Google's token endpoint, and a machine's metadata server: each token has a number.

    `status` refuses, `seconds` says how long a token is good.
    """

    def __init__(self) -> None:
        self.given = 0
        self.status = 200
        self.seconds = 3_600
        super().__init__()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        flavour = {"Metadata-Flavor": "Google"}
        path = request.path.lstrip("/")
        if path == "computeMetadata/v1/project/project-id":
            return web.Response(text="project-1", headers=flavour)
        if path.startswith(ACCOUNTS) and path.endswith("/"):
            account = {"email": "job@project-1.iam.example", "scopes": [], "aliases": ["default"]}
            return web.json_response(account, headers=flavour)
        if path not in ("token", f"{ACCOUNTS}default/token"):
            return web.Response(text="", headers=flavour)
        if self.status != 200:
            said = {"error": "invalid_grant" if self.status < 500 else "busy"}
            return web.json_response(said, status=self.status, headers=flavour)
        self.given += 1
        token = {"access_token": f"bearer-{self.given}", "expires_in": self.seconds, "token_type": "Bearer"}
        return web.json_response(token, headers=flavour)

    def account_file(self, folder: Path) -> dict[str, str]:
        """Settings of a service account whose tokens come from here."""
        account = {
            "type": "service_account",
            "project_id": "project-1",
            "private_key_id": "1",
            "private_key": _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)).decode(),
            "client_email": "job@project-1.iam.example",
            "token_uri": f"{self.url}/token",
        }
        path = folder / "account.json"
        path.write_text(json.dumps(account))
        return {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}

    def metadata(self, folder: Path) -> dict[str, str]:
        """Settings of a machine at Google, whose home holds no credentials."""
        here = f"127.0.0.1:{self.port}"
        return {"GCE_METADATA_HOST": here, "GCE_METADATA_IP": here, "HOME": str(folder)}


class TlsFirestore:
    """Firestore as production sees it: by its name, over TLS, with bearer tokens. Behind it is the emulator.

    The job gets there through an HTTP proxy, which is told where that name is.
    """

    def __init__(self, host: str, folder: Path) -> None:
        key, certificate = self_signed(FIRESTORE)
        self._roots = folder / "roots.pem"
        self._roots.write_bytes(certificate)
        self.bearers: list[str] = []
        self.refuses: Callable[[str], bool] = lambda bearer: False
        self._server = Between(host, grpc.ssl_server_credentials([(key, certificate)]), self._let_in)
        self._proxy = ConnectProxy(self._server.port)

    def _let_in(self, bearer: str) -> Refusal | None:
        self.bearers.append(bearer)
        return UNAUTHENTICATED if not bearer.startswith("Bearer bearer-") or self.refuses(bearer) else None

    def env(self) -> dict[str, str]:
        return {
            "HTTPS_PROXY": f"http://127.0.0.1:{self._proxy.port}",
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(self._roots),
        }

    def stop(self) -> None:
        self._proxy.stop()
        self._server.stop()


class ConnectProxy(ThreadedServer):
    """An HTTP proxy that leads every CONNECT to one port of this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        super().__init__()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        upstream, downstream = await asyncio.open_connection("127.0.0.1", self._target)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(pump(reader, downstream), pump(upstream, writer), return_exceptions=True)


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form)


def self_signed(name: str) -> tuple[bytes, bytes]:
    """A key, and a certificate of that name that signs itself."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return _pem(key), certificate.public_bytes(serialization.Encoding.PEM)
