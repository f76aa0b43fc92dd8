"""The feed document: parse it strictly, once.

Fields of schema 1 (service/feeds/valleybike.yaml is an example to copy):

    schema    1
    id        the feed's name: lower case letters, digits and hyphens
    title     zh and en
    source    uri (the registered source its events come from), title (zh, en),
              grade (A operator, B device, C self-declared), valid_from and, if it ends, valid_to (dates)
    scenario  the low-carbon scenario every row reports
    format    csv: comma separated, UTF-8, a heading line; plain or gzip, told apart by content
    columns   event_id, subject (the provider's own id of the person), started_at and ended_at (column, time_zone),
              and vehicle if there is one
    references  optional: what else names the thing behind a row, so that it counts once: operator, order, payment,
              meter, installation, address, site. Each is the name of a column (where a cell is empty, the row has no
              such reference) or {constant: text} for all rows. An operator is a code of a-z, 0-9, dots and hyphens
    inputs    one entry for each quantity the methodology takes; its name ends in its unit. Either read from a column,
              {basis: track | metered | station_distance | declared, column, unit}, and converted exactly, or computed,
              {basis: straight_line, start, end (longitude and latitude columns, degrees), decimals}
    notes     zh and en: what a reader of the figures must know

A time in the file is ISO 8601, from `2016-08-19 21:41` to `2016-08-19T21:41:05.25+08:00`; one without an offset is
local time of `time_zone`.
"""

import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
)

from service.activities.references import ReferenceInvalid, canonical_reference

_SHIPPED = Path(__file__).parent
SHIPPED_RIDES = _SHIPPED / "data" / "valleybike-2018.csv.gz"
"""12,000 real rides in the form of the feed `valleybike`; data/NOTICE says where they come from and on what terms."""

# What a column may be in, by the unit the input's name ends in. All exact: a mile is 1609.344 m by definition.
UNITS: dict[str, dict[str, Decimal]] = {
    "km": {"km": Decimal(1), "m": Decimal("0.001"), "mi": Decimal("1.609344")},
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Bilingual(_Part):
    """A text for people, in Simplified Chinese and English."""

    zh: Annotated[str, StringConstraints(min_length=1)]
    en: Annotated[str, StringConstraints(min_length=1)]


class FeedError(Exception):
    """A feed or its file cannot be used; `text` says what was expected, what came and what to do."""

    def __init__(self, *, zh: str, en: str) -> None:
        super().__init__(f"{en}\n{zh}")
        self.text = Bilingual(zh=zh, en=en)


class FeedDocumentError(FeedError):
    """The YAML document does not describe a feed."""


class FeedFileError(FeedError):
    """The data file as a whole cannot be read; a single faulty row is a BadRow instead."""


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError) as unknown:  # a directory such as "Asia", a path, an unknown name
        raise ValueError("a time zone name such as UTC or Asia/Shanghai") from unknown
    return name


def _input_names(inputs: dict[str, "InputColumn | StraightLine"]) -> dict[str, "InputColumn | StraightLine"]:
    for name, spec in inputs.items():
        target = name.rpartition("_")[2]
        if not re.fullmatch(r"[a-z][a-z0-9_]*_[a-z]+", name) or target not in UNITS:
            raise ValueError(f"input names that end in a unit ({', '.join(UNITS)}), such as distance_km")
        if isinstance(spec, InputColumn) and spec.unit not in UNITS[target]:
            raise ValueError(f"{name} in one of the units {', '.join(UNITS[target])}")
        if isinstance(spec, StraightLine) and target != "km":
            raise ValueError("straight_line only for an input in km")
    return inputs


def _reference_texts(references: dict["Reference", "str | Constant"]) -> dict["Reference", "str | Constant"]:
    for name, spec in references.items():
        if isinstance(spec, Constant):
            try:
                canonical_reference(name, spec.constant)
            except ReferenceInvalid as invalid:
                raise ValueError(f"the constant {name} as {invalid.expected}") from invalid
    return references


Reference = Literal["operator", "order", "payment", "meter", "installation", "address", "site"]
_Column = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]


class TimeColumn(_Part):
    """A column of moments; `time_zone` is that of the texts without an offset."""

    column: _Column
    time_zone: Annotated[str, AfterValidator(_known_zone)]


class Columns(_Part):
    """Where an activity's ids and times stand in the file."""

    event_id: _Column
    subject: _Column
    started_at: TimeColumn
    ended_at: TimeColumn
    vehicle: _Column | None = None


class Constant(_Part):
    """A reference that is the same in every row."""

    constant: _Column


class InputColumn(_Part):
    """An input that stands in a column, in `unit`."""

    basis: Literal["metered", "track", "station_distance", "declared"]
    column: _Column
    unit: str


class Position(_Part):
    """The columns of a position, degrees."""

    longitude: _Column
    latitude: _Column


class StraightLine(_Part):
    """An input in km computed as the great-circle distance of two positions; rows.straight_line_km has the formula."""

    basis: Literal["straight_line"]
    start: Position
    end: Position
    decimals: Annotated[int, Field(ge=0, le=6)]


class Source(_Part):
    """The data provider the events come from, as it is registered."""

    uri: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9+.-]*:[!#-\[\]-~]+$", max_length=200)]
    title: Bilingual
    grade: Literal["A", "B", "C"]
    valid_from: date
    valid_to: date | None = None


class Feed(_Part):
    """One feed; the module's docstring lists the fields."""

    schema_version: Literal[1] = Field(alias="schema")
    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
    title: Bilingual
    source: Source
    scenario: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)]
    format: Literal["csv"]
    columns: Columns
    references: Annotated[
        dict[
            Reference,
            Annotated[
                Annotated[_Column, Tag("by_column")] | Annotated[Constant, Tag("by_constant")],
                Discriminator(lambda found: "by_column" if isinstance(found, str) else "by_constant"),
            ],
        ],
        AfterValidator(_reference_texts),
    ] = Field(default_factory=dict)
    inputs: Annotated[
        dict[str, Annotated[InputColumn | StraightLine, Field(discriminator="basis")]],
        Field(min_length=1),
        AfterValidator(_input_names),
    ]
    notes: Bilingual


def list_feeds() -> tuple[Feed, ...]:
    """The feeds that ship with the platform, by id."""
    return tuple(_read(path) for path in sorted(_SHIPPED.glob("*.yaml")))


def load_feed(name_or_path: str | Path) -> Feed:
    """A feed that ships with the platform, by its id, or any other by the path of its YAML document.

    Raises FeedDocumentError: no such feed, not readable, not YAML, a field missing, unknown or wrong (with its line).
    """
    shipped = {path.stem: path for path in _SHIPPED.glob("*.yaml")}
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if not path.exists():
        known = ", ".join(sorted(shipped))
        raise FeedDocumentError(
            en=f"Expected the name of a feed ({known}) or the path of a feed document; there is no {name_or_path}. "
            "Check the spelling.",
            zh=f"应为数据映射名称（{known}）或映射文档的路径；找不到 {name_or_path}，请检查拼写。",
        )
    return _read(path)


def _read(path: Path) -> Feed:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FeedDocumentError(
            en=f"{path}: expected a feed document, YAML in UTF-8; it cannot be read ({error}). Give one that can.",
            zh=f"{path}：应为 UTF-8 编码的 YAML 映射文档，但无法读取（{error}），请换一个可读的文件。",
        ) from error
    return parse_feed(text, str(path))


def parse_feed(text: str, name: str) -> Feed:
    """Parse a feed document; `name` stands in front of messages. Raises FeedDocumentError."""
    lines: dict[tuple[str, ...], int] = {}
    try:
        # An alias could nest a document without end, and a feed needs none.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise yaml.YAMLError("aliases (*name) are not allowed here; write the value out")
        loader = yaml.SafeLoader(text)
        document = _plain(loader, loader.get_single_node(), (), lines)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FeedDocumentError(
            en=f"{name}: expected a YAML document; {error}. Mend it there.",
            zh=f"{name}：应为 YAML 文档；{error}。请在该处更正。",
        ) from error
    try:
        return Feed.model_validate(document)
    except ValidationError as error:
        faults = [_describe(fault, lines) for fault in error.errors(include_url=False)]
        raise FeedDocumentError(
            en="\n".join(f"{name} {en}" for en, _ in faults), zh="\n".join(f"{name} {zh}" for _, zh in faults)
        ) from error


def _plain(
    loader: yaml.SafeLoader, node: yaml.Node | None, path: tuple[str, ...], lines: dict[tuple[str, ...], int]
) -> object:
    """The node as plain values; `lines` learns each field's line. A key given twice is refused: YAML keeps the last."""
    if isinstance(node, yaml.MappingNode):
        found: dict[str, object] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in found:
                raise yaml.YAMLError(f"line {line}: the field {key} stands twice; keep one")
            lines[(*path, key)] = line
            found[key] = _plain(loader, value_node, (*path, key), lines)
        return found
    return None if node is None else loader.construct_object(node, deep=True)


def _describe(fault: object, lines: dict[tuple[str, ...], int]) -> tuple[str, str]:
    """One fault of pydantic's, in English and Chinese, with the line it stands on."""
    assert isinstance(fault, dict)
    path = _longest_known(fault["loc"], lines)
    line = lines.get(path, 1)
    last = str(fault["loc"][-1]) if fault["loc"] else "document"
    match fault["type"]:
        case "missing":
            where = ".".join((*path, last))
            return (
                f"line {line}: expected a field {where}; it is missing. Add it.",
                f"第 {line} 行：缺少字段 {where}，请补上。",
            )
        case "extra_forbidden":
            where = ".".join(path)
            return (
                f"line {line}: {where} is not a field of a feed. Remove it, or mend its spelling.",
                f"第 {line} 行：{where} 不是映射文档的字段，请删除或更正拼写。",
            )
        case _:
            where = ".".join(path) or "document"
            expected = fault["msg"].removeprefix("Value error, ")
            return (
                f"line {line}: {where}: expected: {expected}; came {str(fault['input'])[:60]!r}. Change it.",
                f"第 {line} 行：{where} 不合要求（应为：{expected}），现为 {str(fault['input'])[:60]!r}，请更正。",
            )


def _longest_known(loc: tuple[object, ...], lines: dict[tuple[str, ...], int]) -> tuple[str, ...]:
    """The part of pydantic's location that stands in the document; it also names branches of unions, which do not."""
    path: tuple[str, ...] = ()
    for step in loc:
        if (*path, str(step)) in lines:
            path = (*path, str(step))
    return path
