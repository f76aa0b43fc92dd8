"""The parts that every kind of feed is written in: columns, times, references, inputs, places, tables.

docs/feeds.md lists the fields for those who write a feed; kinds.py puts them together.
"""

import re
from datetime import date
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag, model_validator

from service.activities.references import ReferenceInvalid, canonical_reference
from service.feeds.errors import Bilingual, Part

# What a column may be in, by the unit that ends the input's name. All exact: a mile is 1609.344 m by definition.
UNITS: dict[str, dict[str, Decimal]] = {
    "km": {"km": Decimal(1), "m": Decimal("0.001"), "mi": Decimal("1.609344")},
    "kwh": {"kWh": Decimal(1), "Wh": Decimal("0.001"), "MWh": Decimal(1000)},
    "kw": {"kW": Decimal(1), "W": Decimal("0.001"), "MW": Decimal(1000)},
    "kg": {"kg": Decimal(1), "g": Decimal("0.001"), "t": Decimal(1000)},
    "m2": {"m2": Decimal(1)},
    "h": {"h": Decimal(1)},
    "min": {"min": Decimal(1), "h": Decimal(60)},
    "s": {"s": Decimal(1), "min": Decimal(60), "h": Decimal(3600)},
    "kwh_per_km": {"kWh/km": Decimal(1), "Wh/km": Decimal("0.001"), "kWh/100km": Decimal("0.01")},
    "count": {"1": Decimal(1)},
    "trips": {"1": Decimal(1)},
    "steps": {"1": Decimal(1)},
}


def unit_of(name: str) -> str | None:
    """The unit an input's name ends in, such as km of distance_km; None when it ends in none that is known."""
    return max((unit for unit in UNITS if name.endswith(f"_{unit}")), key=len, default=None)


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError) as unknown:  # a directory such as "Asia", a path, an unknown name
        raise ValueError("a time zone name such as UTC or Asia/Shanghai") from unknown
    return name


def _beside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise ValueError("the name of a file in the same folder or below it")
    return name


Column = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Zone = Annotated[str, AfterValidator(_known_zone)]
TimeFormat = Annotated[str, StringConstraints(pattern=r"%", max_length=60)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
Reference = Literal["operator", "order", "payment", "meter", "installation", "address", "site"]
Datum = Literal["wgs84", "gcj02", "bd09", "unstated"]
Decimals = Annotated[int, Field(ge=0, le=9)]


class Constant(Part):
    """A text that is the same in every row."""

    constant: Column


class FileName(Part):
    """A text that the file's name tells: what stands before its first dot."""

    from_file: Literal["name"]


class EventId(Part):
    """The event's own id, where what it is of has no number of its own: a trip made of two taps."""

    from_event: Literal["id"]


def _text_kind(found: object) -> str:
    if isinstance(found, str):
        return "by_column"
    keys = found if isinstance(found, dict) else type(found).model_fields if isinstance(found, Part) else ()
    return "by_file" if "from_file" in keys else "by_event" if "from_event" in keys else "by_constant"


Text = Annotated[
    Annotated[Column, Tag("by_column")]
    | Annotated[Constant, Tag("by_constant")]
    | Annotated[FileName, Tag("by_file")]
    | Annotated[EventId, Tag("by_event")],
    Discriminator(_text_kind),
]


class TimeColumn(Part):
    """A column of moments.

    time_zone  of the texts without an offset
    format     how they are written, as strptime of Python has it, where it is not ISO 8601
    """

    column: Column
    time_zone: Zone
    format: TimeFormat | None = None


class PassOver(Part):
    """Rows that are no activities of this feed: they are counted under `id` and nothing else is done with them."""

    id: Slug
    column: Column
    one_of: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    none_of: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    contains: Column | None = None

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        return _tuples(value, "one_of", "none_of")

    @model_validator(mode="after")
    def _one_test(self) -> "PassOver":
        if sum(test is not None for test in (self.one_of, self.none_of, self.contains)) != 1:
            raise ValueError("exactly one of one_of, none_of, contains")
        return self

    def takes(self, cell: str) -> bool:
        """Whether a row with this cell is passed over."""
        text = cell.strip()
        if self.contains is not None:
            return self.contains in text
        return text in self.one_of if self.one_of is not None else text not in (self.none_of or ())


def _tuples(value: Any, *names: str) -> Any:
    """The document's lists as the tuples of a frozen value."""
    if not isinstance(value, dict):
        return value
    return {name: tuple(one) if name in names and isinstance(one, list) else one for name, one in value.items()}


class Csv(Part):
    """How a CSV file differs from commas, double quotes, points and UTF-8 under one heading line.

    pass_over_lines  lines before the heading, or before the first row where `heading` is given
    heading          the names of the columns, where the file has no heading line
    """

    delimiter: Annotated[str, StringConstraints(pattern=r"^[^\"'\w\s]$|^\t$")] = ","
    quote: Annotated[str, StringConstraints(pattern=r"^[\"']$")] = '"'
    decimal: Literal[".", ","] = "."
    encoding: Literal["utf-8", "gb18030"] = "utf-8"
    pass_over_lines: Annotated[int, Field(ge=0, le=100)] = 0
    heading: Annotated[tuple[str, ...], Field(min_length=1, max_length=1000)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        return _tuples(value, "heading")

    @model_validator(mode="after")
    def _distinct(self) -> "Csv":
        if self.delimiter == self.decimal:
            raise ValueError("a delimiter other than the decimal sign")
        return self


class Table(Part):
    """A small CSV file with one row for each key, read whole.

    file    its name, in the folder that `beside` says (or below it): that of the data file, or that of the feed
    key     the column of the keys
    """

    file: Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_beside)]
    beside: Literal["data", "feed"] = "data"
    key: Column
    csv: Csv = Csv()
    folder: Annotated[str, Field(exclude=True)] = ""  # of the feed document, put in when it is loaded

    @model_validator(mode="before")
    @classmethod
    def _only_loaded(cls, value: Any) -> Any:
        if isinstance(value, dict) and "folder" in value:
            raise ValueError("a table without a folder: `file` and `beside` say where it is")
        return value


class Stations(Table):
    """A table of stations, with their positions in degrees; `links` is the column of the ids a station is joined to.

    The ids in `links` are its runs of digits and letters: `[312, 314]`, `312;314`.
    """

    longitude: Column
    latitude: Column
    datum: Datum
    name: Column | None = None
    links: Column | None = None


class InputColumn(Part):
    """An input that stands in a column, in `unit`."""

    basis: Literal["metered", "track", "station_distance", "declared"]
    column: Column
    unit: str


class InputConstant(Part):
    """An input that is the same in every row; it is declared, for nobody measured it there."""

    basis: Literal["declared"]
    constant: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,12}(\.[0-9]{1,12})?$")]
    unit: str


class InputFromTable(Part):
    """An input that stands in a table, in the row whose key this row's column or file name tells."""

    basis: Literal["metered", "declared"]
    table: str
    key: Text
    column: Column
    unit: str


class Position(Part):
    """The columns of a position, degrees, and its datum."""

    longitude: Column
    latitude: Column
    datum: Datum = "unstated"


class StraightLine(Part):
    """An input in km computed as the great-circle distance of two positions; places.great_circle_km has the formula.

    Positions of the same datum are taken as they stand; of two different ones both are converted to WGS 84.
    """

    basis: Literal["straight_line"]
    start: Position
    end: Position
    decimals: Decimals

    @model_validator(mode="after")
    def _comparable(self) -> "StraightLine":
        data = {self.start.datum, self.end.datum}
        if len(data) > 1 and "unstated" in data:
            raise ValueError("two positions of the same datum, or of two that are both stated: wgs84, gcj02, bd09")
        return self


class StationDistance(Part):
    """An input in km computed from the ids of two stations.

    along  straight_line: the great circle between them; network: the shortest sum of great circles along the links
    """

    basis: Literal["station_distance"]
    stations: str
    start: Column
    end: Column
    along: Literal["straight_line", "network"]
    decimals: Decimals


def _input_kind(found: object) -> str:
    keys = found if isinstance(found, dict) else type(found).model_fields if isinstance(found, Part) else {}
    if "constant" in keys:
        return "in_constant"
    if "table" in keys:
        return "in_table"
    if "stations" in keys:
        return "in_stations"
    basis = found.get("basis") if isinstance(found, dict) else getattr(found, "basis", None)
    return "in_straight" if basis == "straight_line" else "in_column"


Input = Annotated[
    Annotated[InputColumn, Tag("in_column")]
    | Annotated[InputConstant, Tag("in_constant")]
    | Annotated[InputFromTable, Tag("in_table")]
    | Annotated[StraightLine, Tag("in_straight")]
    | Annotated[StationDistance, Tag("in_stations")],
    Discriminator(_input_kind),
]


def check_inputs(inputs: dict[str, Input]) -> dict[str, Input]:
    """Each input's name ends in its unit and its column is in a unit that converts to it. Raises ValueError."""
    for name, spec in inputs.items():
        target = unit_of(name)
        if target is None or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(f"input names that end in a unit ({', '.join(UNITS)}), such as distance_km")
        if isinstance(spec, InputColumn | InputConstant | InputFromTable):
            if spec.unit not in UNITS[target]:
                raise ValueError(f"{name} in one of the units {', '.join(UNITS[target])}")
        elif target != "km":
            raise ValueError(f"{spec.basis} only for an input in km")
    return inputs


def check_references(references: dict[Reference, Text]) -> dict[Reference, Text]:
    """A constant is what the platform takes for such a reference. Raises ValueError."""
    for name, spec in references.items():
        if isinstance(spec, Constant):
            try:
                canonical_reference(name, spec.constant)
            except ReferenceInvalid as invalid:
                raise ValueError(f"the constant {name} as {invalid.expected}") from invalid
    return references


class Source(Part):
    """The data provider the events come from, as it is registered."""

    uri: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:[!#-\[\]-~]+$", max_length=200)]
    title: Bilingual
    grade: Literal["A", "B", "C"]
    valid_from: date
    valid_to: date | None = None
