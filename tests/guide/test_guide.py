"""The guide in both languages shows every snippet as it is, and both say the same in the same order."""

import re
import sys
from pathlib import Path

import pytest

from tests.guide.workshop import ROOT, SNIPPETS

GUIDES = {"en": ROOT / "docs" / "connect.md", "zh": ROOT / "docs" / "connect.zh.md"}
LANGUAGE_OF = {".sh": "sh", ".py": "python", ".java": "java", ".http": "http", ".csv": "csv", ".yaml": "yaml"}
EVERY_GUIDE = pytest.mark.parametrize("language", GUIDES)

_SHOWN = re.compile(r"^<!-- snippet (\S+) -->\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _text(language: str) -> str:
    return GUIDES[language].read_text("utf-8")


def _prose(language: str) -> str:
    return _SHOWN.sub("", _text(language))


def _files() -> set[str]:
    return {str(path.relative_to(SNIPPETS)) for path in SNIPPETS.rglob("*") if path.is_file()}


@EVERY_GUIDE
def test_the_guide_shows_the_files_as_they_are(language: str) -> None:
    for name, fence, content in _SHOWN.findall(_text(language)):
        path = SNIPPETS / name
        assert path.is_file(), f"{name} is not there"
        assert fence == LANGUAGE_OF[path.suffix], name
        renew = "renew it: .venv/bin/python -m tests.guide.test_guide --write"
        assert content == path.read_text("utf-8"), f"{name} differs; {renew}"
    assert "```" not in _prose(language), "code that is no file of docs/snippets, so nothing runs it"


@EVERY_GUIDE
def test_every_snippet_is_shown_once(language: str) -> None:
    other = {"en": ".zh.", "zh": ".en."}[language]
    shown = [name for name, _, _ in _SHOWN.findall(_text(language))]
    assert sorted(shown) == sorted(name for name in _files() if other not in name)


def test_every_program_is_run() -> None:
    runs = (Path(__file__).parent / "test_snippets.py").read_text("utf-8")
    for path in SNIPPETS.glob("*/*"):
        if path.suffix in (".sh", ".py", ".java"):
            snake = re.sub(r"(?<!^)([A-Z])", r"_\1", path.stem).lower()
            assert path.stem in runs or snake in runs, f"test_snippets.py does not run {path.name}"


def test_both_guides_have_the_same_shape() -> None:
    shapes = []
    for language in GUIDES:
        prose = _prose(language)
        shapes.append(
            {
                "snippets": [name.replace(f".{language}.", ".") for name, _, _ in _SHOWN.findall(_text(language))],
                "headings": [len(marks) for marks in re.findall(r"^(#+) ", prose, re.MULTILINE)],
                "rows": len(re.findall(r"^\|", prose, re.MULTILINE)),
                "items": re.findall(r"^(- |\d\.)", prose, re.MULTILINE),
                "paragraphs": len(re.findall(r"\n\n+(?=\S)", prose)),
                "code": sorted(set(re.findall(r"`([^`\n]+)`", prose))),
                "targets": [re.sub(r"#.*", "", link) for link in re.findall(r"\]\(([^)]+)\)", prose)][1:],
            }
        )
    en, zh = shapes
    for name, found in en.items():
        assert found == zh[name], name


def write() -> None:
    """Put the files as they are into both guides."""
    for path in GUIDES.values():
        text = re.sub(
            r"^<!-- snippet (\S+) -->\n```(\w+)\n(.*?)^```$",
            lambda found: f"<!-- snippet {found[1]} -->\n```{found[2]}\n{_content(found[1])}```",
            path.read_text("utf-8"),
            flags=re.MULTILINE | re.DOTALL,
        )
        path.write_text(text, "utf-8")


def _content(name: str) -> str:
    return Path(SNIPPETS / name).read_text("utf-8")


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("python -m tests.guide.test_guide --write puts the snippets into both guides")
    write()
