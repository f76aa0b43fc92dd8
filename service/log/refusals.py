"""Why nothing may be posted or signed: the codes of ledger.log_state.refused, each with what an operator does about it.

docs/operations.md has the procedures under the same codes.
"""

from collections.abc import Mapping
from typing import NamedTuple

GUARD_AHEAD = "guard-ahead"
GUARD_BEHIND = "guard-behind"
GUARD_MISSING = "guard-missing"
GUARD_UNUSABLE = "guard-unusable"
HISTORY_DIFFERS = "history-differs"
FILES_DIFFER = "files-differ"
LEAVES_MISSING = "leaves-missing"


class Why(NamedTuple):
    """What was found, and what to do, in both languages."""

    zh: str
    en: str
    remedy_zh: str
    remedy_en: str


_RESTORE = (
    "若有更新的备份，恢复它；否则执行 tanpuhui log epoch new --reason restored-backup",
    "restore a later backup if there is one, else run `tanpuhui log epoch new --reason restored-backup`",
)

REFUSALS: Mapping[str, Why] = {
    GUARD_AHEAD: Why(
        "已签署的日志比数据库长：数据库可能由较早的备份恢复",
        "more was signed than the database has: it may be an older backup",
        *_RESTORE,
    ),
    GUARD_BEHIND: Why(
        "防分叉记录早于数据库或日志文件中的检查点",
        "the guard is older than the checkpoints of the database or of the log's files",
        "放回最新的防分叉记录；若已遗失，执行 tanpuhui log epoch new --reason guard-lost",
        "put the latest guard back; if it is lost, run `tanpuhui log epoch new --reason guard-lost`",
    ),
    GUARD_MISSING: Why(
        "防分叉记录不见了，而日志已经签署过",
        "the guard is missing, and the log was signed before",
        "放回防分叉记录 (TANPUHUI_GUARD_FILE)；若已遗失，执行 tanpuhui log epoch new --reason guard-lost",
        "put the guard back (TANPUHUI_GUARD_FILE); if it is lost, run `tanpuhui log epoch new --reason guard-lost`",
    ),
    GUARD_UNUSABLE: Why(
        "防分叉记录无法读取",
        "the guard cannot be read",
        "修复其权限，或放回完好的文件；若已遗失，删除它并执行 tanpuhui log epoch new --reason guard-lost",
        "mend its permissions or put a sound file back; if it is lost, remove it and run "
        "`tanpuhui log epoch new --reason guard-lost`",
    ),
    HISTORY_DIFFERS: Why(
        "数据库中的条目与已签署的不同",
        "the database has other entries than those that were signed",
        *_RESTORE,
    ),
    FILES_DIFFER: Why(
        "日志文件与数据库给出的内容不同",
        "the log's files hold other bytes than the database gives",
        "从备份恢复日志目录 (TANPUHUI_LOG_DIR) 中的该文件，或删除它后由发布进程重建；若数据库确有改动，见操作文档",
        "restore the file of TANPUHUI_LOG_DIR that the publisher's log names, or remove it: it is made again. Should "
        "the database be what changed, see docs/operations.md",
    ),
    LEAVES_MISSING: Why(
        "数据库中的日志有缺口",
        "the log in the database has a gap",
        "数据库已损坏：由备份恢复",
        "the database is damaged: restore it from a backup",
    ),
}
