"""Small tables beside a file or a feed: figures by a key, and stations with the distances between them."""

import heapq
import re
from pathlib import Path
from typing import TypeAlias

from service.feeds.cells import BadCellError, degrees_of, shown
from service.feeds.errors import Bilingual, FeedFileError
from service.feeds.model import Stations, Table
from service.feeds.places import Place, great_circle_km, to_wgs84
from service.feeds.records import open_lines, read_heading, records

Rows: TypeAlias = dict[str, dict[str, str]]

_MOST_ROWS = 100_000  # it is kept in memory
_ID = re.compile(r"\w+")


def load_table(table: Table, data_folder: Path, needed: tuple[str, ...]) -> Rows:
    """The table's rows by their keys. Raises FeedFileError: not readable, a column missing, a key twice, too large."""
    path = Path(table.folder or ".") / table.file if table.beside == "feed" else data_folder / table.file
    form, found = table.csv, Rows()
    with open_lines(path, form.encoding) as lines:
        for _ in range(form.pass_over_lines):
            next(lines, None)
        heading = list(form.heading) if form.heading else read_heading(path, lines, form.delimiter, form.quote)
        missing = [name for name in (table.key, *needed) if name not in heading]
        if missing:
            raise _faulty(path, 1, f"the columns {', '.join(missing)} are missing", f"缺少列 {'、'.join(missing)}")
        for line, cells in records(lines, len(heading), form.delimiter, form.quote):
            if isinstance(cells, Bilingual):
                raise _faulty(path, line, cells.en, cells.zh)
            row = dict(zip(heading, (cell.strip() for cell in cells), strict=True))
            if row[table.key] in found:
                raise _faulty(path, line, f"{row[table.key]} stands twice", f"{row[table.key]} 重复")
            found[row[table.key]] = row
            if len(found) > _MOST_ROWS:
                raise _faulty(path, line, f"more than {_MOST_ROWS} rows", f"超过 {_MOST_ROWS} 行")
    return found


def _faulty(path: Path, line: int, en: str, zh: str) -> FeedFileError:
    return FeedFileError(
        en=f"{path} line {line}: expected a table with one row for each key; {en}. Mend the table.",
        zh=f"{path} 第 {line} 行：应为每个键一行的表；{zh}。请更正该表。",
    )


class Network:
    """Stations and the distances between them, in km, in WGS 84 where the datum of the table is stated.

    Along the network: the smallest sum of great-circle lengths of links from the one to the other, by Dijkstra's
    algorithm. A great circle is shorter than the track, so the result is not longer than the ride.
    """

    def __init__(self, stations: Stations, rows: Rows) -> None:
        sign = stations.csv.decimal
        self._places: dict[str, Place] = {}
        for key, row in rows.items():
            try:
                place = (
                    degrees_of(stations.longitude, row[stations.longitude], 180, sign),
                    degrees_of(stations.latitude, row[stations.latitude], 90, sign),
                )
            except BadCellError as bad:
                raise FeedFileError(
                    en=f"{stations.file}, station {key}: {bad.detail.en} Mend the table.",
                    zh=f"{stations.file} 站点 {key}：{bad.detail.zh}请更正该表。",
                ) from bad
            self._places[key] = to_wgs84(place, stations.datum)
        self._links: dict[str, dict[str, float]] = {key: {} for key in rows}
        for key, row in rows.items():
            for other in _ID.findall(row[stations.links]) if stations.links else ():
                if other in self._places and other != key:  # a link is travelled both ways, whoever names it
                    length = great_circle_km(self._places[key], self._places[other])
                    self._links[key][other] = self._links[other][key] = length
        self._reached: dict[str, dict[str, float]] = {}

    def straight_line(self, start: str, end: str) -> float:
        return great_circle_km(self._place(start), self._place(end))

    def along(self, start: str, end: str) -> float:
        self._place(start)
        self._place(end)
        distance = self._from(start).get(end)
        if distance is None:
            raise BadCellError(
                en=f"Expected two stations that links join; none lead from {start} to {end}.",
                zh=f"应为由线路相连的两站；{start} 至 {end} 无线路相连。",
                reason="stations-not-joined",
                mend=Bilingual(zh="请更正站点表的相邻站。", en="Mend the links in the table of stations."),
            )
        return distance

    def _place(self, key: str) -> Place:
        place = self._places.get(key)
        if place is None:
            raise BadCellError(
                en=f"Expected the id of a station in the table of stations; came {shown(key)}.",
                zh=f"应为站点表中的站点编号；实为 {shown(key)}。",
                reason="unknown-station",
                mend=Bilingual(
                    zh="请更正站点编号，或在站点表中补上该站。", en="Mend the id, or add the station to the table."
                ),
            )
        return place

    def _from(self, start: str) -> dict[str, float]:
        """The distances to every station that can be reached from this one."""
        known = self._reached.get(start)
        if known is not None:
            return known
        done: dict[str, float] = {}
        heap = [(0.0, start)]
        while heap:
            distance, key = heapq.heappop(heap)
            if key in done:
                continue
            done[key] = distance
            for other, length in self._links[key].items():
                if other not in done:
                    heapq.heappush(heap, (distance + length, other))
        self._reached[start] = done
        return done


def load_network(stations: Stations, data_folder: Path) -> Network:
    """A table of stations, ready to be asked for distances. Raises FeedFileError."""
    needed = [stations.longitude, stations.latitude, *([stations.links] if stations.links else [])]
    return Network(stations, load_table(stations, data_folder, tuple(needed)))
