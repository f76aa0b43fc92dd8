"""`tanpuhui ledger check`: everything again, from the journal."""

import asyncio
from dataclasses import asdict, replace
from pathlib import Path

import asyncpg
import typer

from api.commands.environment import Json, read_settings
from api.demonstration import Terminal
from api.supervisor import find_platform
from ledger.check import Checked, Finding, check_ledger
from service.activities.check import check_activities
from service.database import require_schema
from service.embedded import start_embedded
from service.keyring import load_keyring
from service.keyring_check import keyring_faults, read_check_values
from service.migrations import expected_version
from service.redemption.check import check_redemptions
from service.settlement.check import check_statements
from service.signals.check import check_reviews
from service.vault import Vault
from service.vault.refreshing import require_vault

app = typer.Typer(help="账本核对。 Check the ledger.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """One command so far: without this it would be the group itself."""


@app.command("check")
def ledger_check(as_json: Json = False) -> None:
    """由流水重算并逐项比对。 Recompute and compare.

    全部余额、积分批次、序号、日志与系统汇总；有差异时以状态 1 结束。

    Every balance, bucket, counter, leaf and total from the journal and compare; exit status 1 if anything
    differs.
    """
    terminal, settings = Terminal(as_json), read_settings()
    url = settings.database_url
    if url is None and (known := find_platform(settings.data_dir)):
        url = known.auditor_url
    if url is not None:
        own, named = settings.database_url is None, settings.model_fields_set
        keyring = settings.keyring_file if own or "keyring_file" in named else None
        masters = settings.vault_key_file if own or "vault_key_file" in named else None
        checked = asyncio.run(check_everything(url, keyring, masters))
    else:
        with start_embedded(settings.data_dir) as servers:
            checked = asyncio.run(
                check_everything(servers.urls.auditor, settings.keyring_file, settings.vault_key_file)
            )
    _report(checked, terminal)
    raise typer.Exit(1 if checked.findings else 0)


async def check_everything(url: str, keyring_file: Path | None, vault_key_file: Path | None) -> Checked:
    """Everything that differs; without a keyring its own check is left out, and without the vault's keys what only the
    evidence tells: whoever checks from elsewhere has neither. Raises KeyringError, VaultError."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        await require_schema(connection, expected_version())
        vault = Vault(vault_key_file) if vault_key_file else None
        if vault:
            await require_vault(connection, vault)
        checked = await check_ledger(connection)
        findings = [*checked.findings, *await check_activities(connection, vault), *await check_redemptions(connection)]
        findings += await check_statements(connection)
        findings += await check_reviews(connection)
        known = await read_check_values(connection)
        if keyring_file and known:
            faults = keyring_faults(load_keyring(keyring_file), known)
            findings += [Finding("keyring", fault, str(keyring_file), "the platform's keyring") for fault in faults]
        return replace(checked, findings=tuple(findings))
    finally:
        await connection.close()


def _report(checked: Checked, terminal: Terminal) -> None:
    counts = checked.counts
    terminal.say(
        "账户 {accounts}，划转 {transfers}，分录 {lines}，日志 {log_size}（待排 {queued}）".format_map(counts),
        "{accounts} accounts, {transfers} transfers, {lines} lines, a log of {log_size} ({queued} waiting)".format_map(
            counts
        ),
    )
    for finding in checked.findings:
        terminal.say(
            f"差异 [{finding.check}] {finding.about}：现存 {finding.stored}，账本 {finding.journal}",
            f"difference [{finding.check}] {finding.about}: stored {finding.stored}, journal {finding.journal}",
        )
    if not checked.findings:
        terminal.say("全部一致，未发现差异", "everything agrees: no difference found")
    terminal.finish({**counts, "findings": [asdict(finding) for finding in checked.findings]})
