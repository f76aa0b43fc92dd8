"""`python -m service.audit replay DIR`: an auditor's replay, without the command line of the platform."""

import argparse
import sys
from pathlib import Path

from ledger.bundle import BundleUnreadable
from service.audit.page import as_html
from service.audit.replay import replay
from service.audit.report import as_json, as_text

FOUND, UNREADABLE = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run it. The status is 0 only if nothing was found, 2 where there is no bundle to look at."""
    parser = argparse.ArgumentParser("python -m service.audit", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="replay")
    one = commands.add_parser(
        "replay", help="重放审计包：重算每一克与每一分。 Compute every gram and point of a bundle again."
    )
    one.add_argument("directory", type=Path, metavar="DIR", help="审计包文件夹。 The bundle's folder.")
    one.add_argument("--json", action="store_true", help="输出 JSON。 Print JSON.")
    one.add_argument("--html", type=Path, metavar="FILE", help="写出离线网页。 Write one page that opens offline.")
    one.add_argument("--processes", type=int, default=1, help="并行进程数。 How many processes share the work.")
    options = parser.parse_args(arguments)
    try:
        found = replay(options.directory, processes=options.processes)
    except (BundleUnreadable, OSError) as error:
        print(f"审计包无法读取 / the bundle cannot be read: {error}", file=sys.stderr)
        return UNREADABLE
    if options.html:
        options.html.write_text(as_html(found), "utf-8")
    for line in [as_json(found)] if options.json else as_text(found):
        print(line)
    return 0 if found.clean else FOUND


if __name__ == "__main__":
    sys.exit(main())
