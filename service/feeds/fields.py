"""What a feed says of one row's texts and figures, made into functions of its cells.

Everything that can be looked up once for a file is looked up here: where its columns are, its tables, its constants.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from service.feeds.cells import EXACT, BadCellError, degrees_of, id_of, number_of, shown
from service.feeds.errors import Bilingual, FeedFileError
from service.feeds.kinds import Feed
from service.feeds.model import (
    UNITS,
    Constant,
    EventId,
    FileName,
    Input,
    InputColumn,
    InputConstant,
    InputFromTable,
    StationDistance,
    StraightLine,
    Text,
    unit_of,
)
from service.feeds.places import great_circle_km, rounded_km, to_wgs84
from service.feeds.sheets import Cells, Sheet
from service.feeds.tables import Network, load_network, load_table

# Of the cells where an activity begins and those where it ends: of a trip in one row they are the same.
Figure: TypeAlias = Callable[[Cells, Cells], Decimal]


@dataclass(frozen=True, slots=True)
class Fields:
    """References and inputs of the rows of one file."""

    constants: Mapping[str, str]
    named: tuple[tuple[str, str, int], ...]
    of_event: tuple[str, ...]
    figures: tuple[tuple[str, Figure], ...]

    def references(self, cells: Cells, event_id: str) -> Mapping[str, str]:
        """By name; where a cell is empty, the row has no such reference."""
        if not self.named and not self.of_event:
            return self.constants
        found = dict(self.constants)
        for name, column, at in self.named:
            if cells[at].strip():
                found[name] = id_of(column, cells[at])
        for name in self.of_event:
            found[name] = event_id
        return found

    def inputs(self, first: Cells, last: Cells) -> dict[str, Decimal]:
        """By name, in the unit that ends the name, exact. Raises BadCellError."""
        return {name: of(first, last) for name, of in self.figures}


def fields_of(feed: Feed, sheet: Sheet) -> Fields:
    """The references and inputs of this file. Raises FeedFileError for a table that cannot be read."""
    constants, named, of_event = dict[str, str](), list[tuple[str, str, int]](), list[str]()
    for name, spec in feed.references.items():
        match spec:
            case Constant():
                constants[name] = spec.constant
            case FileName():
                constants[name] = file_name(sheet)
            case EventId():
                of_event.append(name)
            case str():
                named.append((name, spec, sheet.index(spec)))
    networks = {
        name: load_network(stations, sheet.path.parent)
        for name, stations in feed.stations.items()
        if any(isinstance(spec, StationDistance) and spec.stations == name for spec in feed.inputs.values())
    }
    figures = tuple((name, _figure(name, spec, feed, sheet, networks)) for name, spec in feed.inputs.items())
    return Fields(constants, tuple(named), tuple(of_event), figures)


def file_name(sheet: Sheet) -> str:
    """What stands before the first dot of the file's name. Raises FeedFileError where nothing does."""
    try:
        return id_of("file name", sheet.path.name.partition(".")[0])
    except BadCellError as bad:
        raise FeedFileError(
            en=f"{sheet.path}: expected a file named by what it is of; {bad.detail.en} Rename it.",
            zh=f"{sheet.path}：文件名应说明其内容；{bad.detail.zh}请改名。",
        ) from bad


def text_of(spec: Text, sheet: Sheet) -> Callable[[Cells], str]:
    """A function to the text of a row: from its column, the file's name, or always the same."""
    if isinstance(spec, str):
        at = sheet.index(spec)
        return lambda cells: id_of(spec, cells[at])
    constant = spec.constant if isinstance(spec, Constant) else file_name(sheet)
    return lambda _: constant


def _figure(name: str, spec: Input, feed: Feed, sheet: Sheet, networks: Mapping[str, Network]) -> Figure:
    match spec:
        case InputColumn():
            at, factor, sign = sheet.index(spec.column), _factor(name, spec.unit), feed.csv.decimal
            column = spec.column
            return lambda _, last: EXACT.multiply(number_of(column, last[at], sign), factor)
        case InputConstant():
            always = EXACT.multiply(Decimal(spec.constant), _factor(name, spec.unit))
            return lambda _, last: always
        case InputFromTable():
            return _from_table(name, spec, feed, sheet)
        case StationDistance():
            return _station_distance(spec, sheet, networks[spec.stations])
        case StraightLine():
            return _straight_line(spec, sheet, feed.csv.decimal)


def _factor(name: str, unit: str) -> Decimal:
    target = unit_of(name)
    assert target is not None  # the document was checked
    return UNITS[target][unit]


def _from_table(name: str, spec: InputFromTable, feed: Feed, sheet: Sheet) -> Figure:
    table, key_of = feed.tables[spec.table], text_of(spec.key, sheet)
    rows, factor = load_table(table, sheet.path.parent, (spec.column,)), _factor(name, spec.unit)

    def figure(_: Cells, last: Cells) -> Decimal:
        key = key_of(last)
        row = rows.get(key)
        if row is None:
            raise BadCellError(
                en=f"{name}: expected {shown(key)} in the column {table.key} of {table.file}; it is not there.",
                zh=f"{name}：{table.file} 的 {table.key} 列中应有 {shown(key)}，但没有。",
                reason="not-in-table",
                mend=Bilingual(zh=f"请在 {table.file} 中补上该行。", en=f"Add its row to {table.file}."),
            )
        return EXACT.multiply(number_of(spec.column, row[spec.column], table.csv.decimal), factor)

    return figure


def _station_distance(spec: StationDistance, sheet: Sheet, network: Network) -> Figure:
    start_at, end_at = sheet.index(spec.start), sheet.index(spec.end)
    measure = network.along if spec.along == "network" else network.straight_line
    return lambda first, last: rounded_km(measure(first[start_at].strip(), last[end_at].strip()), spec.decimals)


def _straight_line(spec: StraightLine, sheet: Sheet, sign: str) -> Figure:
    lon1, lat1, lon2, lat2 = columns = (
        spec.start.longitude,
        spec.start.latitude,
        spec.end.longitude,
        spec.end.latitude,
    )
    at = [sheet.index(column) for column in columns]
    convert = spec.start.datum != spec.end.datum

    def straight(first: Cells, last: Cells) -> Decimal:
        start = degrees_of(lon1, first[at[0]], 180, sign), degrees_of(lat1, first[at[1]], 90, sign)
        end = degrees_of(lon2, last[at[2]], 180, sign), degrees_of(lat2, last[at[3]], 90, sign)
        if convert:
            start, end = to_wgs84(start, spec.start.datum), to_wgs84(end, spec.end.datum)
        return rounded_km(great_circle_km(start, end), spec.decimals)

    return straight
