"""What became of an import, for a person: by outcome and reason, by row, by day, the first refused rows, what to do."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from api.commands.providing import reason_title
from api.demonstration import Terminal
from api.provider.mending import mend_of
from api.provider.recording import Shown, numbers_of
from api.provider.report import DUPLICATE, NO_DAY, Amounts, ImportReport

_MOST_DAYS = 31  # more are shown by month; --json gives each
_MOST_MENDS = 6
_OWN_REASONS = {
    DUPLICATE: "此前已报送",
    "unmatched-entry": "有进站无出站",
    "unmatched-exit": "有出站无进站",
    "duplicate-row": "重复行",
    "incomplete-reading": "读数不完整",
}


def summarize_import(
    terminal: Terminal,
    report: ImportReport,
    passed_over: Mapping[str, int],
    first: Sequence[Shown] = (),
    *,
    dry_run: bool = False,
    by_day: bool = True,
) -> None:
    """Print it. `first` are refused rows to name one by one."""
    title = (
        "试运行：未保存任何内容 A dry run: nothing was stored" if dry_run else "报送结果 What became of the activities"
    )
    table = Table(title=title, title_justify="left", box=None, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", overflow="fold")
    table.add_row("报送 posted", f"{report.posted:,}")
    table.add_row(
        "入账 credited", f"{report.credited:,}", f"待确认 pending {report.pending:,}" if report.pending else ""
    )
    for reason, count in report.refused.most_common():
        table.add_row(f"未入账 refused · {_title(reason)}", f"{count:,}", reason)
    kilograms = report.reduction_mg / 1_000_000  # for the eye only: the exact milligrams are in the JSON and the ledger
    table.add_row("减排量 reduction", f"{report.reduction_mg:,}", f"mg CO2e = {kilograms:,.3f} kg")
    table.add_row("碳积分 points", f"{report.points:,}")
    for name, zh in (("credited", "入账"), ("refused", "未入账"), ("not_asked", "未询问平台")):
        if report.rows[name]:
            table.add_row(f"文件行 rows · {zh} {name.replace('_', ' ')}", f"{report.rows[name]:,}")
    for rule, count in passed_over.items():
        table.add_row("文件行 rows · 按模板略过 passed over", f"{count:,}", rule)
    table.add_row("用时 time", f"{report.seconds:.1f}", "s")
    if report.seconds and not dry_run:
        table.add_row("速率 rate", f"{report.rows.total() / report.seconds:,.0f}", "rows/s")
    terminal.console.print(table)
    if by_day and report.days:
        terminal.console.print(_days(report))
    for row, reason, detail, mend in first:
        where = f"{row.file} 第 {row.line} 行 line {row.line} (row {numbers_of(row)[:60]})"
        terminal.console.print(f"{where}: {reason}: {detail} → {mend}", style="dim", markup=False)
    _say_what_to_do(terminal, report)


def _say_what_to_do(terminal: Terminal, report: ImportReport) -> None:
    known = [(reason, count, mend_of(reason)) for reason, count in report.refused.most_common() if reason != DUPLICATE]
    for reason, count, mend in [each for each in known if each[2] is not None][:_MOST_MENDS]:
        assert mend is not None
        terminal.console.print(f"{reason} × {count:,}: {mend.zh}  {mend.en}", markup=False)


def _days(report: ImportReport) -> Table:
    """The days by Asia/Shanghai, or the months where there are many."""
    monthly = len(report.days) > _MOST_DAYS
    found: dict[str, Amounts] = {}
    for day, amounts in sorted(report.days.items()):
        name = day[:7] if monthly and day != NO_DAY else day
        total = found.setdefault(name, Amounts())
        total.credited += amounts.credited
        total.refused += amounts.refused
        total.reduction_mg += amounts.reduction_mg
        total.points += amounts.points
    table = Table(
        "月 month" if monthly else "日 day",
        title=f"按{'月' if monthly else '日'}（上海时间） By {'month' if monthly else 'day'}, Asia/Shanghai",
        title_justify="left",
        box=None,
    )
    for title in ("入账 credited", "未入账 refused", "减排量 mg CO2e", "碳积分 points"):
        table.add_column(title, justify="right")
    for name, amounts in found.items():
        shown = "不明 unknown" if name == NO_DAY else name
        table.add_row(
            shown, f"{amounts.credited:,}", f"{amounts.refused:,}", f"{amounts.reduction_mg:,}", f"{amounts.points:,}"
        )
    return table


def _title(reason: str) -> str:
    """A reason in Chinese; its code, in English, stands beside it."""
    return _OWN_REASONS.get(reason) or reason_title(reason)
