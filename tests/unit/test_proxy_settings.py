"""One rule for each client's way out: proxies as the environment says, this machine and the metadata server never."""

from __future__ import annotations

from pathlib import Path

import pytest

from notifications.domain.errors import ConfigFault
from notifications.proxies import outbound

PROXY = "http://user:se%40cret@proxy.example:3128"
NEVER = "127.0.0.1,localhost,::1,metadata.google.internal,169.254.169.254"


def told(both: dict[str, str], grpc: str = "") -> dict[str, str]:
    return {name: value for one, value in both.items() for name in (one, one.upper())} | {"grpc_proxy": grpc}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, {}),
        ({"NO_PROXY": "x.example"}, {}),
        ({"HTTP_PROXY": " ", "https_proxy": ""}, {}),
        ({"HTTPS_PROXY": PROXY}, told({"http_proxy": "", "https_proxy": PROXY, "all_proxy": "", "no_proxy": NEVER})),
        (
            {"ALL_PROXY": "proxy.example:3128", "NO_PROXY": "x.example, localhost", "GCE_METADATA_HOST": "meta:80"},
            told(
                {
                    "http_proxy": "http://proxy.example:3128",
                    "https_proxy": "http://proxy.example:3128",
                    "all_proxy": "",
                    "no_proxy": "x.example,localhost,127.0.0.1,::1,metadata.google.internal,169.254.169.254,meta",
                }
            ),
        ),
        (
            {"http_proxy": "http://low:1", "HTTP_PROXY": "http://UP:2", "grpc_proxy": "http://g:3"},
            told({"http_proxy": "http://low:1", "https_proxy": "", "all_proxy": "", "no_proxy": NEVER}, "http://g:3"),
        ),
        (
            {"HTTP_PROXY": PROXY, "NO_PROXY": "*"},
            told({"http_proxy": "", "https_proxy": "", "all_proxy": "", "no_proxy": f"*,{NEVER}"}),
        ),
    ],
)
def test_each_client_reads_the_same_in_either_case(env: dict[str, str], expected: dict[str, str]) -> None:
    assert outbound(env) == expected


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY", "grpc_proxy"])
@pytest.mark.parametrize(
    "value",
    [
        "socks5://se:cret@host:1",
        "https://secret:1",
        "http://",
        "http://secret:99999",
        "http://secret:0",
        "http://[secret",
        "http://sec ret:1",
        "http://secret:1/path",
        "http://sécret:1",
    ],
)
def test_a_proxy_that_not_every_client_can_use_is_refused_by_name_alone(name: str, value: str) -> None:
    with pytest.raises(ConfigFault, match=f"^{name} is no proxy") as caught:
        outbound({name: value})
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR", "SSLKEYLOGFILE"]
)
def test_certificates_that_cannot_be_read_and_keys_that_cannot_be_written_are_told_at_the_start(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigFault, match=f"^{name} names ") as caught:
        outbound({name: str(tmp_path / "nowhere" / "secret")})
    assert "secret" not in str(caught.value)
    text = tmp_path / "text.pem"
    text.write_text("no certificate", encoding="utf-8")
    if name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        with pytest.raises(ConfigFault, match="it is no PEM"):
            outbound({name: str(text)})
