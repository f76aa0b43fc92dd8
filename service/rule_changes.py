"""What differs between two versions of a rule document: every field by its path, and which of them are figures."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_NO_FIGURES = ("schema", "version", "examples", "sources")  # numbers there decide nothing


@dataclass(frozen=True, slots=True)
class Change:
    """One field; `old` is None where it was added, `new` where it was taken out.

    path     `factors.metro_g_per_pkm.values[2025-01-01].value`: items of a list by their id, first day or references
    figure   a number that decides on what is credited
    """

    path: str
    old: str | None
    new: str | None
    figure: bool


def changes(before: bytes, after: bytes) -> tuple[Change, ...]:
    """From one canonical document to another, in the order of the paths."""
    old, new = dict(_fields(json.loads(before), "")), dict(_fields(json.loads(after), ""))
    return tuple(
        Change(path, old.get(path), new.get(path), _is_figure(path, old.get(path), new.get(path)))
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    )


def _fields(tree: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _fields(value, f"{path}.{name}" if path else name)
    elif isinstance(tree, list):
        for number, item in enumerate(tree):
            yield from _fields(item, f"{path}[{_key(item, number)}]")
    else:
        yield path, str(tree)


def _key(item: object, number: int) -> str:
    """What tells an item from its neighbours, so that one more in front does not change all behind it."""
    if isinstance(item, str):
        return item
    if isinstance(item, dict):
        for name in ("id", "from"):
            if isinstance(item.get(name), str):
                return str(item[name])
        if isinstance(item.get("of"), list):
            return "+".join(map(str, item["of"]))
    return str(number + 1)


def _is_figure(path: str, old: str | None, new: str | None) -> bool:
    top = re.split(r"[.\[]", path, maxsplit=1)[0]
    return top not in _NO_FIGURES and any(value is not None and _NUMBER.fullmatch(value) for value in (old, new))
