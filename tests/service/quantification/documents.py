"""The documents of tests/rules, which show one of everything a methodology may say; their figures are invented."""

from pathlib import Path

from service.quantification.methodology import load_catalogue
from service.quantification.model import Methodology

DIRECTORY = Path(__file__).parents[2] / "rules" / "methodologies"
DOCUMENTS = {one.id: one for one in load_catalogue(DIRECTORY).all()}


def rule(name: str) -> Methodology:
    return DOCUMENTS[name]


def text(name: str) -> str:
    return (DIRECTORY / f"{name}.yaml").read_text(encoding="utf-8")
