"""Honest bundles that tests look at, and copy before they change anything."""

from pathlib import Path
from random import Random

import pytest

from tests.log.bundles import write_history


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with everything in it: some days, some people, 900 entries."""
    folder = tmp_path_factory.mktemp("honest") / "bundle"
    write_history(folder, Random(7), 700, people=9, mean_s=6_000, sign_each=90)
    return folder


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of years, in which points run out."""
    folder = tmp_path_factory.mktemp("old") / "bundle"
    write_history(folder, Random(8), 150, people=2, mean_s=3_000_000)
    return folder


@pytest.fixture(scope="session")
def redeemed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle in which points are held, captured, released and refunded, after years, too."""
    folder = tmp_path_factory.mktemp("redeemed") / "bundle"
    write_history(folder, Random(9), 700, people=6, mean_s=40_000, redeemed=0.5)
    return folder
