"""How an API process serves: TLS by itself where it has a certificate, and nothing that would be out of sight."""

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from api.hardening.protocol import PatientProtocol
from api.processes.serving import server_config
from service.settings import Settings
from tests.running import Api

pytestmark = pytest.mark.anyio


def certified(directory: Path) -> tuple[Path, Path]:
    """A certificate of this machine's own address, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain, secret = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return chain, secret


async def test_with_a_certificate_it_speaks_tls_and_says_so(api: Api, tmp_path: Path) -> None:
    chain, key = certified(tmp_path)
    app = api.client._transport.app  # type: ignore[attr-defined]  # httpx keeps it to itself
    config = server_config(app, Settings(tls_certificate=chain, tls_key=key, log_level="error"))
    config.lifespan = "off"  # the application runs already
    assert config.ssl is not None
    assert config.ssl.minimum_version == ssl.TLSVersion.TLSv1_2
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        try:
            async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=str(chain))) as client:
                answer = await client.get(f"https://{place}/v1/health/alive")
                assert answer.status_code == 200
                assert answer.headers["strict-transport-security"] == "max-age=63072000"
                with pytest.raises(httpx.HTTPError):
                    await client.get(f"http://{place}/v1/health/alive")
            old = ssl.create_default_context(cafile=str(chain))
            old.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.warns(DeprecationWarning, match="TLSv1_1"):
                old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
            async with httpx.AsyncClient(verify=old) as client:
                with pytest.raises(httpx.HTTPError):
                    await client.get(f"https://{place}/v1/health/alive")
        finally:
            server.should_exit = True
            await serving


async def test_nothing_escapes_the_limits_of_the_server(api: Api) -> None:
    app = api.client._transport.app  # type: ignore[attr-defined]  # httpx keeps it to itself
    config = server_config(app, Settings(request_timeout_s=7, max_connections=99, log_level="error"))
    assert isinstance(config.http, type)
    assert issubclass(config.http, PatientProtocol)
    assert (config.http.patience.request_s, config.http.patience.connections) == (7, 99)
    assert (config.ws, config.proxy_headers, config.server_header) == ("none", False, False)
    assert config.is_ssl is False
