"""Look for somebody in whatever a platform leaves behind: each value in the forms in which bytes are written down."""

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

PIECE = 4 * 2**20


def forms(value: bytes) -> set[bytes]:
    """A value as it is, in hex, in base64 whatever stands before it, percent-coded and escaped as JSON."""
    text = value.decode("utf-8", "replace")
    found = {value, value.hex().encode(), value.hex().upper().encode()}
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + value)
        # What depends on the bytes before and behind is left out.
        sure = coded[-(-shift * 8 // 6) :].rstrip(b"=")
        sure = sure[: len(sure) - 1] if (shift + len(value)) % 3 else sure
        found |= {sure, sure.replace(b"+", b"-").replace(b"/", b"_")}
    found |= {quote(text, safe="").encode(), quote(text, safe="").lower().encode()}
    found.add(text.encode("ascii", "backslashreplace"))
    assert min(map(len, found)) >= 6, f"{value!r} is too short to be told from chance"
    return found


def search(paths: Iterable[Path], values: Iterable[bytes], *, plain: bool = False) -> list[tuple[str, bytes]]:
    """Where one of these values stands in any form, or with `plain` as it is: the file, and the form."""
    needles = sorted(values if plain else {form for value in values for form in forms(value)})
    longest = max(map(len, needles))
    hits = []
    for path in paths:
        for piece in _pieces(path, longest):
            hits += [(str(path), needle) for needle in needles if needle in piece]
    return hits


def _pieces(path: Path, overlap: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        rest = b""
        while piece := file.read(PIECE):
            yield rest + piece
            rest = (rest + piece)[-overlap:]


def files_of(*directories: Path) -> list[Path]:
    """Every file below these."""
    return sorted(path for directory in directories for path in directory.rglob("*") if path.is_file())
