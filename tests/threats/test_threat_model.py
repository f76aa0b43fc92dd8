"""docs/threat-model.md: every threat has its row, and every test that is named to show it is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
COLUMNS = 5
THREATS = {
    "A farm of bots",
    "A stolen app token",
    "A stolen bank key",
    "A stolen provider token",
    "A malicious provider",
    "An insider with the database",
    "A restored backup",
    "A replayed request",
    "Enumeration",
    "Injection",
    "Oversized and slow requests",
    "A compromised source key",
    "A stolen operator token",
    "Our own suspicion",
}


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| threat"))]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def name_of(cell: str) -> str:
    """The English name: what stands before the first Chinese character."""
    return re.split(r"[\u4e00-\u9fff]", cell)[0].strip()


def defined(path: Path) -> set[str]:
    """The tests of a file."""
    tree = ast.parse(path.read_text("utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, functions) and node.name.startswith("test_")}


def test_every_threat_has_a_whole_row_and_a_test_that_exists() -> None:
    found = rows((ROOT / "docs/threat-model.md").read_text("utf-8"))
    told = {name_of(row[0]): row for row in found if len(row) == COLUMNS}
    shown = {name_of(row[0]): re.findall(r"`([^`]+)`", row[1]) for row in found if len(row) == 2}
    assert told.keys() == THREATS
    assert shown.keys() == THREATS
    assert all(all(row) for row in told.values())
    for threat, tests in shown.items():
        assert tests, threat
        assert len(set(tests)) == len(tests), threat
        for test in tests:
            file, _, name = test.partition("::")
            assert name in defined(ROOT / file), f"{threat} names {test}, which is not there"


def test_every_test_of_this_room_is_named() -> None:
    text = (ROOT / "docs/threat-model.md").read_text("utf-8")
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        if path != Path(__file__):
            for name in defined(path):
                assert f"`{path.relative_to(ROOT)}::{name}`" in text, f"{name} shows nothing that is told"
