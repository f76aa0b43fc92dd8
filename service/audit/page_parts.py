"""What the page is put together from: words in both languages, tables, legends. What comes out of a bundle is
escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from service.audit.findings import Words

MOST_ROWS = 500  # of a table: the JSON has them all


class Cell(NamedTuple):
    """A table's cell, escaped already; `kind` is a class of the style."""

    html: str
    kind: str = ""


def table(heads: Sequence[tuple[str, str]], cells: Iterable[Sequence[Cell]], total: int) -> str:
    rows = list(cells)
    made = ["<tr>" + "".join(f'<td class="{cell.kind}">{cell.html}</td>' for cell in row) + "</tr>" for row in rows]
    numeric = [cell.kind.startswith("n") for cell in rows[0]] if rows else [False] * len(heads)
    head = "".join(
        f'<th class="n">{both(*title)}</th>' if right else f"<th>{both(*title)}</th>"
        for title, right in zip(heads, numeric, strict=True)
    )
    more = total - len(made)
    told_of = ""
    if more > 0:
        told_of = both(f"另有 {more:,} 行，见 JSON。", f"{more:,} more rows are counted; the JSON has what is listed.")
        told_of = f'<p class="faint">{told_of}</p>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(made)}</tbody></table>"
    return f'<div class="scroll">{table}</div>{told_of}'


def both(zh: str, en: str) -> str:
    """Words of ours, of which the page's switch shows one."""
    return f'<span class="zh" lang="zh-CN">{escaped(zh)}</span><span class="en" lang="en">{escaped(en)}</span>'


def in_words(words: Words) -> str:
    return both(words[1], words[0])


def escaped(text: object) -> str:
    return escape(str(text))


def legend(entries: Iterable[tuple[int, str]]) -> str:
    told_of = "".join(f'<span><i class="c{colour}"></i>{name}</span>' for colour, name in entries)
    return f'<div class="legend">{told_of}</div>'
