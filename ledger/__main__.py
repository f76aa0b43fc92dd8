"""`python -m ledger verify DIR`: an auditor's check of a bundle, with Python and `cryptography` alone."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ledger.bundle import BundleUnreadable
from ledger.errors import PolicyInvalid
from ledger.verify.report import as_json, as_text
from ledger.verify.run import verify

FOUND, UNREADABLE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """0 only if nothing was found, 1 with findings, 2 where there is no bundle that could be looked at."""
    options = _options(arguments)
    try:
        report = verify(
            options.directory, processes=options.processes, previous=options.previous, policy=options.policy
        )
    except (BundleUnreadable, PolicyInvalid, OSError) as error:
        print(f"{error}\n无法读取审计包：{error}", file=sys.stderr)
        return UNREADABLE
    for line in [as_json(report)] if options.json else as_text(report):
        print(line)
    return 0 if report.clean else FOUND


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m ledger", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="verify")
    verify = commands.add_parser("verify", help="check a bundle / 核查审计包")
    verify.add_argument("directory", type=Path, metavar="DIR", help="the bundle's folder / 审计包目录")
    verify.add_argument("--json", action="store_true", help="one line of JSON / 输出 JSON")
    verify.add_argument("--processes", type=int, default=1, metavar="N", help="how many work at a time / 并行进程数")
    verify.add_argument(
        "--previous", type=Path, metavar="FILE", help="your checkpoint of the last time / 上次核查记下的检查点"
    )
    verify.add_argument("--policy", type=Path, metavar="FILE", help="your own witness policy / 自备的见证策略")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
