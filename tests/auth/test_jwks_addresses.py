"""Keys may be fetched from the address that the operator named: over TLS, or on this machine."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from auth.jwks import Jwks
from realtime.errors import ConfigurationError
from tests.auth.issuer import Signer
from tests.auth.jwks_server import JwksServer


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://issuer.example/keys", "must be https"),
        ("http://127.0.0.1.issuer.example/keys", "must be https"),
        ("http://localhost.issuer.example/keys", "must be https"),
        ("http://10.0.0.1/keys", "must be https"),
        ("ftp://issuer.example/keys", "must be an https"),
        ("file:///etc/passwd", "must be an https"),
        ("https://", "must be an https"),
        ("issuer.example/keys", "must be an https"),
        ("https://user:password@issuer.example/keys", "must not hold"),
        ("https://issuer.example:99999/keys", "not a URL"),
        ("https://issuer.example/ke ys", "printable ASCII"),
        ("https://issuer.example/keys\r\nHost:x", "printable ASCII"),
        ("https://issuer.exämple/keys", "printable ASCII"),
    ],
)
def test_addresses_without_tls_or_with_credentials_are_refused(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as caught:
        Jwks(url=url)
    assert "password@" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "[::1]"])
def test_this_machine_may_publish_keys_without_tls(host: str) -> None:
    Jwks(url=f"http://{host}:8080/keys")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for localhost and its key, in one file; only the test trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.2"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + built.public_bytes(Encoding.PEM)
    )
    return path


async def test_keys_are_taken_over_tls_only_from_a_trusted_certificate(
    certificate: Path, signer: Signer
) -> None:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate)
    server = JwksServer(tls=served)
    await server.start()
    server.publish(signer.jwk())
    trusting = Jwks(url=server.url, tls=ssl.create_default_context(cafile=str(certificate)))
    doubting = Jwks(url=server.url)
    mistaken = Jwks(
        url=server.url.replace("localhost", "127.0.0.1"),
        tls=ssl.create_default_context(cafile=str(certificate)),
    )
    assert await trusting.refresh()
    assert trusting.find("ES256", "one")
    assert not await doubting.refresh()
    assert not await mistaken.refresh()
    await server.stop()
