"""How `tanpuhui quantify --compare` tells the same act under every document: a table, then why each differs."""

from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from api.comparing import grams
from api.demonstration import Terminal


def show_comparison(zh: dict[str, Any], en: dict[str, Any], terminal: Terminal) -> None:
    """The largest reduction first; a document without a result says why below the table."""
    say, documents = terminal.say, list(zip(zh["documents"], en["documents"], strict=True))
    count = len(documents)
    say(
        f"{zh['act_title']}：{count} 个文档，{zh['computed']} 个给出结果",
        f"{en['act_title']}: documents {count}, with a result {en['computed']}",
    )
    table = Table(box=box.SIMPLE_HEAD)
    for head in ("文档 document", "地区 where", "减排量 reduction", "倍数 × median", "计入单元 counted", "状态 as"):
        table.add_column(head, justify="right" if head.startswith(("减排量", "倍数")) else "left", overflow="fold")
    for chinese, english in documents:
        table.add_row(
            f"{english['methodology']} {english['version']}",
            english["jurisdiction"],
            "–" if english["reduction_mg"] is None else f"{grams(english['reduction_mg'])} g",
            english["ratio_to_median"] or "–",
            f"{chinese['trigger_title']} {english['trigger_title']}",
            english["credited_as"],
        )
    terminal.console.print(table)
    for chinese, english in documents:
        terminal.console.print(f"[bold]{english['methodology']} {english['version']}[/bold]", end="  ")
        say(escape(chinese["title"]), escape(english["title"]))
        for one, other in zip(chinese["because"], english["because"], strict=True):
            say(f"  {escape(one)}", escape(other))
