"""Settings: defaults that run, values that are refused, and everything unsafe in production at once."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from service.keyring import create_keyring
from service.settings import Settings, UnsafeSettings, describe_settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in describe_settings():
        monkeypatch.delenv(row.variable, raising=False)


def production(folder: Path, **changes: object) -> Settings:
    """Settings that production mode accepts, with changes."""
    jwks = folder / "jwks.json"
    jwks.write_text("{}")
    create_keyring(folder / "keyring.json")
    safe: dict[str, object] = {
        "mode": "production",
        "data_dir": folder,
        "database_url": "postgresql://tanpuhui:secret@db.internal/tanpuhui?sslmode=verify-full",
        "redis_url": "rediss://cache.internal",
        "jwks": str(jwks),
        "token_issuer": "https://issuer.example",
        "oauth_issuer": "https://carbon.example",
        "log_origin": "carbon.example/log",
        "guard_file": folder.with_name("guard"),
    }
    return Settings(**{**safe, **changes})  # type: ignore[arg-type]


def test_without_any_variable_it_is_development_on_this_machine() -> None:
    settings = Settings()
    assert settings.mode == "development"
    assert settings.database_url is None
    assert settings.keyring_file == Path(".data/keyring.json")
    assert (settings.log_dir, settings.log_key_file) == (Path(".data/log"), Path(".data/log.key"))
    assert settings.guard_file == Path.cwd() / ".data.guard"
    assert settings.allowed_statuses == {"official", "group_standard", "platform_table", "demonstration"}


def test_variables_are_read_and_settings_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANPUHUI_ALLOWED_STATUSES", "official, group_standard")
    monkeypatch.setenv("TANPUHUI_CLOCK_OFFSET", "-3600")
    settings = Settings()
    assert settings.allowed_statuses == {"official", "group_standard"}
    assert settings.clock_offset == timedelta(hours=-1)
    with pytest.raises(ValidationError):
        setattr(settings, "port", 1)  # noqa: B010 - the type checker forbids the plain form too


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("port", 65535, 65536),
        ("region", "310000", "31000"),
        ("max_batch_items", 1000, 1001),
        ("allowed_statuses", "official", "unofficial"),
        ("allowed_statuses", "official", ""),
        ("database_url", "postgres://h/d", "mysql://h/d"),
        ("rate_items_burst", 1000, 999),
        ("log_origin", "carbon.example/log", "https://carbon.example/log"),
        ("log_origin", "carbon.example/log", "carbon.example/log/"),
        ("log_origin", "carbon.example/log", "carbon.example/a log"),
        ("checkpoint_interval_ms", 100, 99),
    ],
)
def test_the_last_good_and_the_first_bad_value(name: str, good: object, bad: object) -> None:
    Settings(**{name: good})  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Settings(**{name: bad})  # type: ignore[arg-type]


def test_a_local_share_of_the_burst_still_passes_a_full_batch() -> None:
    Settings(api_processes=4, rate_items_burst=4000)
    with pytest.raises(ValidationError, match="at least max_batch_items x api_processes = 5000: raise it"):
        Settings(api_processes=5, rate_items_burst=4000)


@pytest.mark.parametrize(
    "url", ["redis://localhost", "redis://:p@127.0.0.1:1/0", "redis://[::1]:6379", "unix:///run/v"]
)
def test_a_limiters_server_on_this_machine_needs_no_tls(tmp_path: Path, url: str) -> None:
    production(tmp_path, redis_url=url)


def test_a_key_of_tls_is_its_owners_alone(tmp_path: Path) -> None:
    certificate, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for path in (certificate, key):
        path.write_text("")
    key.chmod(0o600)
    production(tmp_path, tls_certificate=certificate, tls_key=key)
    key.chmod(0o644)
    with pytest.raises(UnsafeSettings, match="chmod 600"):
        production(tmp_path, tls_certificate=certificate, tls_key=key)
    with pytest.raises(ValidationError, match="belong together"):
        Settings(tls_certificate=certificate)


def test_proxies_are_networks() -> None:
    settings = Settings(trusted_proxies="10.0.0.0/8, fd00::/8,192.0.2.1")
    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]
    for wrong in ("proxy.example", "10.0.0.1/8"):
        with pytest.raises(ValidationError):
            Settings(trusted_proxies=wrong)


def test_no_password_in_text_or_error() -> None:
    assert "secret" not in repr(Settings(database_url="postgresql://u:secret@h/d", redis_url="redis://:secret@h"))
    with pytest.raises(ValidationError) as caught:
        Settings(database_url="mysql://u:secret@h/d")
    assert "secret" not in str(caught.value)


def test_production_accepts_what_is_safe(tmp_path: Path) -> None:
    settings = production(tmp_path)
    assert settings.allowed_statuses == {"official", "group_standard"}
    assert settings.require_approvals
    assert not Settings().require_approvals


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@/d?host=/run/postgresql",
        "postgresql://u@localhost:5432/d",
        "postgresql://u@127.0.0.1/d",
        "postgresql://u@[::1]:5432/d",
        "postgresql://u@db/d?ssl=verify-full",
    ],
)
def test_a_database_on_this_machine_needs_no_tls(tmp_path: Path, url: str) -> None:
    production(tmp_path, database_url=url)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"database_url": None}, "embedded PostgreSQL"),
        ({"redis_url": None}, "TANPUHUI_REDIS_URL"),
        ({"database_url": "postgresql://u@db/d"}, "reaches db without TLS"),
        ({"database_url": "postgresql://u@db/d?sslmode=prefer"}, "sslmode=verify-full"),
        ({"database_url": "postgresql://u@db/d?sslmode=require"}, "TLS that proves who answers"),
        ({"database_url": "postgresql://u@db/d?sslmode=verify-ca"}, "TLS that proves who answers"),
        ({"redis_url": "redis://:p@cache.internal:6379/0"}, "rediss://"),
        ({"redis_url": "redis://[2001:db8::1]:6379"}, "rediss://"),
        ({"database_url": "postgresql://u@/d?host=a:5432&host=b:5432"}, "reaches a:5432, b:5432 without TLS"),
        ({"token_issuer": "tanpuhui-development"}, "TANPUHUI_TOKEN_ISSUER"),
        ({"jwks": None}, "TANPUHUI_JWKS"),
        ({"jwks": "http://issuer.example/jwks"}, "https://"),
        ({"jwks": "/nowhere/jwks.json"}, "names no file"),
        ({"oauth_issuer": "http://carbon.example"}, "TANPUHUI_OAUTH_ISSUER"),
        ({"two_person": False}, "TANPUHUI_TWO_PERSON"),
        ({"keyring_file": Path("/nowhere/keyring.json")}, "no keyring"),
        ({"allowed_statuses": "official,demonstration"}, "demonstration"),
        ({"require_approvals": False}, "TANPUHUI_REQUIRE_APPROVALS"),
        ({"clock_offset": 1}, "TANPUHUI_CLOCK_OFFSET"),
        ({"log_origin": "localhost/log"}, "TANPUHUI_LOG_ORIGIN"),
    ],
)
def test_production_refuses_each_unsafe_value(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    with pytest.raises(UnsafeSettings, match=told) as caught:
        production(tmp_path, **changes)
    assert len(caught.value.faults) == 1


def test_citizens_sign_in_by_a_provider_and_texts_of_the_deployments_own(tmp_path: Path) -> None:
    texts = tmp_path / "texts.yaml"
    texts.touch()
    city: dict[str, object] = {"citizen_issuer": "https://id.city.example", "citizen_audience": "city-app"}
    assert production(tmp_path, **city, consent_texts=texts).citizen_audience == "city-app"
    for changes, told in (
        (city, "the sample texts are nobody's terms"),
        (city | {"consent_texts": tmp_path / "none.yaml"}, "names no file"),
        (city | {"consent_texts": texts, "citizen_issuer": "http://id.city.example"}, "sign in as anybody"),
    ):
        with pytest.raises(UnsafeSettings, match=told):
            production(tmp_path, **changes)
    with pytest.raises(ValidationError, match="set together"):
        Settings(citizen_issuer="https://id.city.example")


def test_production_refuses_a_keyring_everyone_may_read(tmp_path: Path) -> None:
    create_keyring(tmp_path / "open.json").tag("event", b"")
    (tmp_path / "open.json").chmod(0o604)
    with pytest.raises(UnsafeSettings, match="chmod 600"):
        production(tmp_path, keyring_file=tmp_path / "open.json")


def test_production_refuses_a_guard_that_would_be_restored_with_the_data(tmp_path: Path) -> None:
    production(tmp_path, guard_file=tmp_path.with_name(f"{tmp_path.name}.guard"))
    with pytest.raises(UnsafeSettings, match="restored together"):
        production(tmp_path, guard_file=tmp_path / "below" / "guard")


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(UnsafeSettings) as caught:
        Settings(mode="production", clock_offset=timedelta(1), allowed_statuses=frozenset({"demonstration"}))
    assert len(caught.value.faults) == 9


def test_signed_calls_count_for_the_platforms_own_names(tmp_path: Path) -> None:
    assert Settings().public_authorities == frozenset()
    assert production(tmp_path).public_authorities == {urlsplit(production(tmp_path).oauth_issuer).netloc}
    named = Settings(public_authorities="Carbon.example, carbon.example:8443, [::1]:8000")
    assert named.public_authorities == {"carbon.example", "carbon.example:8443", "[::1]:8000"}
    for wrong in ("carbon.example:443", "carbon.example/v1", "https://carbon.example", "carbon.example:123456"):
        with pytest.raises(ValidationError, match="expected names such as"):
            Settings(public_authorities=wrong)


def test_every_setting_is_described_in_both_languages() -> None:
    rows = describe_settings()
    assert [row.variable for row in rows] == ["TANPUHUI_" + name.upper() for name in Settings.model_fields]
    assert all(row.en and any("\u4e00" <= letter <= "\u9fff" for letter in row.zh) for row in rows)
