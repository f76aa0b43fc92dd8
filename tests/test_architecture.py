"""The shape of the house that imports alone can show: the pure half stands alone, history is not rewritten."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("api", "service", "ledger")

# What an auditor's machine need not have.
BLOCKED = [
    "alembic",
    "asyncpg",
    "fastapi",
    "httpx",
    "jwt",
    "orjson",
    "prometheus_client",
    "psycopg",
    "pydantic",
    "pydantic_settings",
    "redis",
    "sqlalchemy",
    "sqlmodel",
    "starlette",
    "structlog",
    "typer",
    "uvicorn",
]
DATABASE_AND_WEB = [name for name in BLOCKED if name not in ("orjson",)]

# The digest of every released migration. A released migration is never edited: what it did is done. Write another one.
MIGRATIONS = {
    "0001_ledger_log_and_activities.py": "2d864337c75adb1a25c91e47b6e84842dadfbca1bfa438530a6aa5606f3221d6",
    "0002_what_counts.py": "d3ca83fa0b1f4c6e8da5143252b493a0303787fe4ca318dd07192a85a03285f8",
    "0003_the_log_is_signed.py": "cabbef268500353dbfaceae4181686fc190abbfa91eb7a2da6ea36782ee6acf3",
    "0004_redemption.py": "c622afb3ef03659e315230509b0a04f0723663e62ad6821523988acdfa145b61",
    "0005_products.py": "3577bda2b5565baaab163bee38b0a0f87202f7b18720245bfecf2f6ddc2801d1",
    "0006_banks.py": "fe05abd03ca2fea8e8da0eb41d3ffec6fd8f9bb9e1714c16df442d532bc4d191",
    "0007_webhooks.py": "2c59284ceab5a499813ddc7c7f25bc211f5f086c5654710437126cdf68620095",
    "0008_settlement.py": "e8ffc2507bd758d0bc6744be09f6ce0d08d8fa1a451b37483d3ee84e71112c69",
    "0009_access.py": "3291bdd93f5a04ec5339effe6e8e986a36f8636333ee362d8e50014fc4053a32",
    "0010_linking.py": "da47a00d6a2cfeed0fffcf4ad5fd87157bea789419c830822a57405b88b88e17",
    "0011_signed_reports.py": "1a9525a2c6bb5697a1dcdb8dc3982aa6803bc5f2f305295d8767732d2fc2f1b6",
    "0012_vault.py": "9af0f67c7db6857532e8906a2f856eb052b71ba020f4fcb08a5647a96146b0cf",
    "0013_rights.py": "410bcc70fd9297cb7bfc63712965ec2d5a9f08288270af6a743be31cec3ad74c",
    "0014_limits.py": "87ae33fd762d0fc9ea17ed9a0c1c6b8e11958d305112c2facd8cd3fed66d2bc5",
    "0015_signals.py": "5acc8ab57bf0557e31d62b50424a760caa088447cfcd8c18da095792922be91c",
    "0016_supervision.py": "3b61213eba3517113ec2dd59d4596c3b35565af377d79f9e55b95192a7310cd1",
}

_PROGRAM = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in sys.argv[1].split():
            raise ImportError(f'{name} is not for this room')

sys.meta_path.insert(0, Blocked())
for name in sys.argv[2].split():
    importlib.import_module(name)
"""


def imported(modules: str, blocked: list[str]) -> subprocess.CompletedProcess[str]:
    """Import these modules in a process of its own that has none of the blocked packages."""
    command = [sys.executable, "-c", _PROGRAM, " ".join(blocked), modules]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_pure_half_of_the_ledger_needs_only_the_standard_library() -> None:
    done = imported("ledger.units ledger.errors ledger.journal ledger.leaves", [*BLOCKED, "yaml", "pint", "numpy"])
    assert done.returncode == 0, done.stderr


def test_verifying_needs_the_standard_library_and_cryptography() -> None:
    files = (ROOT / "ledger" / "verify").glob("*.py")
    modules = " ".join(["ledger.__main__", "ledger.bundle", *(f"ledger.verify.{file.stem}" for file in files)])
    done = imported(
        modules, [*BLOCKED, "yaml", "pint", "numpy", "pyarrow", "rich", "tzdata", "service", "api", "tests"]
    )
    assert done.returncode == 0, done.stderr


def test_quantification_needs_no_database_and_no_web() -> None:
    files = (ROOT / "service" / "quantification").glob("*.py")
    modules = " ".join(f"service.quantification.{file.stem}" for file in files if file.stem != "__init__")
    done = imported(modules, DATABASE_AND_WEB)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["ledger.store", "api.app", "service.posting"])
def test_the_blocking_blocks(name: str) -> None:
    assert "is not for this room" in imported(name, BLOCKED).stderr


def test_every_folder_of_code_is_a_package() -> None:
    versions = ROOT / "service" / "migrations" / "versions"  # loaded by path, not imported
    folders = {file.parent for room in ROOMS for file in (ROOT / room).rglob("*.py")} - {versions}
    assert [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_released_migrations_are_never_edited() -> None:
    files = sorted((ROOT / "service" / "migrations" / "versions").glob("*.py"))
    assert {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files} == MIGRATIONS
