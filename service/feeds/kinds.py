"""The kinds of feed: what the rows of a file are, and how they become activities.

trips      one row is one activity: a ride, a charging session, a trip that the operator put together
taps       one row is one tap of a card: an entry and an exit make a trip, a boarding stands alone
readings   one row is one reading of a meter: those of a calendar period make one activity
positions  one row is one position of a vehicle: those of one ride make one activity
"""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from service.feeds.errors import Bilingual, Part
from service.feeds.model import (
    UNITS,
    Column,
    Csv,
    Datum,
    Decimals,
    Input,
    InputColumn,
    InputFromTable,
    PassOver,
    Reference,
    Slug,
    Source,
    StationDistance,
    Stations,
    StraightLine,
    Table,
    Text,
    TimeColumn,
    TimeFormat,
    Zone,
    check_inputs,
    check_references,
)

Inputs: TypeAlias = Annotated[dict[str, Input], AfterValidator(check_inputs)]


class Feed(Part):
    """What every feed says, whatever its kind."""

    schema_version: Literal[1] = Field(alias="schema")
    id: Slug
    title: Bilingual
    source: Source
    scenario: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)]
    format: Literal["csv", "parquet"]
    csv: Csv = Csv()
    pass_over: Annotated[tuple[PassOver, ...], Field(max_length=16)] = ()
    tables: dict[Slug, Table] = Field(default_factory=dict)
    stations: dict[Slug, Stations] = Field(default_factory=dict)
    references: Annotated[dict[Reference, Text], AfterValidator(check_references)] = Field(default_factory=dict)
    inputs: Inputs = Field(default_factory=dict)
    notes: Bilingual

    @property
    def groups(self) -> bool:
        """Whether one activity may stand for several rows."""
        return True

    def basis_of(self, name: str) -> str:
        """How the figures of an input were obtained."""
        return self.inputs[name].basis

    def columns_read(self) -> list[str]:
        """The columns a file must have, each once."""
        wanted = [*self._own_columns(), *(rule.column for rule in self.pass_over)]
        wanted += [spec for spec in self.references.values() if isinstance(spec, str)]
        for spec in self.inputs.values():
            match spec:
                case StraightLine():
                    wanted += [spec.start.longitude, spec.start.latitude, spec.end.longitude, spec.end.latitude]
                case StationDistance():
                    wanted += [spec.start, spec.end]
                case InputFromTable():
                    wanted += [spec.key] if isinstance(spec.key, str) else []
                case InputColumn():
                    wanted.append(spec.column)
        return list(dict.fromkeys(wanted))

    def _own_columns(self) -> list[str]:
        return []

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("pass_over"), list):
            return value | {"pass_over": tuple(value["pass_over"])}
        return value

    @model_validator(mode="after")
    def _named(self) -> "Feed":
        for spec in self.inputs.values():
            if isinstance(spec, InputFromTable) and spec.table not in self.tables:
                raise ValueError(f"an entry {spec.table} in tables")
            if isinstance(spec, StationDistance):
                if spec.stations not in self.stations:
                    raise ValueError(f"an entry {spec.stations} in stations")
                if spec.along == "network" and self.stations[spec.stations].links is None:
                    raise ValueError(f"links in the stations {spec.stations}: without them there is no network")
        if self.format == "parquet" and self.csv != Csv():
            raise ValueError("no section csv for a file in Parquet")
        return self


class Columns(Part):
    """Where an activity's ids and times stand in the file."""

    event_id: Column
    subject: Column
    started_at: TimeColumn
    ended_at: TimeColumn
    vehicle: Column | None = None


class TripsFeed(Feed):
    """One row is one activity."""

    kind: Literal["trips"] = "trips"
    columns: Columns
    inputs: Annotated[Inputs, Field(min_length=1)]

    @property
    def groups(self) -> bool:
        return False

    def _own_columns(self) -> list[str]:
        columns = self.columns
        wanted = [columns.event_id, columns.subject, columns.started_at.column, columns.ended_at.column]
        return wanted if columns.vehicle is None else [*wanted, columns.vehicle]


class TapColumns(Part):
    """Where a tap's card and time stand; `vehicle` is that of a boarding, or of a trip's entry."""

    subject: Column
    at: TimeColumn
    vehicle: Column | None = None


class TapWords(Part):
    """What the taps of each kind are called in `column`."""

    column: Column
    entry: tuple[str, ...] = ()
    exit: tuple[str, ...] = ()
    boarding: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: tuple(one) if isinstance(one, list) else one for name, one in value.items()}

    @model_validator(mode="after")
    def _distinct(self) -> "TapWords":
        words = [*self.entry, *self.exit, *self.boarding]
        if not words or len(words) != len(set(words)) or bool(self.entry) != bool(self.exit):
            raise ValueError("entry and exit together, or boarding, and no word twice")
        return self


class Pairing(Part):
    """When an entry and the same card's next tap, an exit, are one trip.

    longest_min  an exit later than this after the entry belongs to another trip
    same         columns that must say the same at both, such as the operator; columns that may be empty are no proof
    """

    longest_min: Annotated[int, Field(ge=1, le=1440)]
    same: tuple[Column, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("same"), list):
            return value | {"same": tuple(value["same"])}
        return value


class TapsFeed(Feed):
    """One row is one tap of a card. Columns of references and inputs are read at the exit of a trip, but a
    station_distance reads `start` at the entry and `end` at the exit."""

    kind: Literal["taps"]
    columns: TapColumns
    taps: TapWords
    pairing: Pairing | None = None

    def _own_columns(self) -> list[str]:
        columns = self.columns
        wanted = [columns.subject, columns.at.column, self.taps.column, *(self.pairing.same if self.pairing else ())]
        return wanted if columns.vehicle is None else [*wanted, columns.vehicle]

    @model_validator(mode="after")
    def _ruled(self) -> "TapsFeed":
        if bool(self.taps.entry) != (self.pairing is not None):
            raise ValueError("a section pairing, where there are entries and exits, and only there")
        return self


class ReadingTime(Part):
    """When a reading was taken; for an interval, `label` says whether that is its start or its end.

    column     its column; without one the rows are in order without a break, `first` and then every step_s seconds
    first      an ISO 8601 time. With an offset from UTC the rows count elapsed time; without one the wall clock of
               time_zone, where a skipped hour has rows too and a repeated one only once
    step_s     the length of an interval, in seconds; a register has none
    skipped    a label that the clock skipped in spring: refuse it, or pass it over (a file padded to 24 hours)
    repeated   a label that the clock showed twice in autumn: in_order (its first row is the earlier), or shared (one
               row tells both, and its energy is halved between them). later: for files that count every hour but, on
               the day that the clocks of `clock` go forward, label an hour as the one before: its second row is the
               hour after
    clock      the zone whose clock change `later` is about, where it is not time_zone
    """

    column: Column | None = None
    first: datetime | None = None
    time_zone: Zone
    format: TimeFormat | None = None
    label: Literal["start", "end"] = "start"
    step_s: Annotated[int, Field(ge=60, le=86_400)] | None = None
    skipped: Literal["refuse", "pass_over"] = "refuse"
    repeated: Literal["in_order", "shared", "later"] = "in_order"
    clock: Zone | None = None

    @model_validator(mode="after")
    def _somewhere(self) -> "ReadingTime":
        if (self.column is None) == (self.first is None) or (self.first is not None and self.step_s is None):
            raise ValueError("a column of times, or `first` and step_s")
        if self.repeated == "shared" and self.step_s is None:
            raise ValueError("step_s, where the clock's repeated hour is shared")
        return self


class Quantity(Part):
    """What was measured: energy of an interval, its mean power, or a register that only rises.

    column    its column, or several that are added up
    unit      kWh, Wh, MWh: energy; kW, W, MW: mean power over the interval; kWh/kW, Wh/kW: energy for each kW of
              capacity, and `times` names the input that is the capacity, in kW
    decimals  to how many places a value is rounded, half-even, before anything else: for files in which the noise of
              binary fractions stands behind what the meter showed
    register  true for a cumulative register
    """

    column: tuple[Column, ...]
    unit: Literal["kWh", "Wh", "MWh", "kW", "W", "MW", "kWh/kW", "Wh/kW"]
    times: str | None = None
    decimals: Decimals | None = None
    register_reading: Annotated[bool, Field(alias="register")] = False

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("column"), str | list):
            one = value["column"]
            return value | {"column": (one,) if isinstance(one, str) else tuple(one)}
        return value

    @model_validator(mode="after")
    def _meaningful(self) -> "Quantity":
        if self.unit.endswith("/kW") != (self.times is not None):
            raise ValueError("times with a unit for each kW, and only with one")
        if self.register_reading and self.unit not in UNITS["kwh"]:
            raise ValueError("a register in kWh, Wh or MWh")
        return self


class PeriodOf(Part):
    """The Asia/Shanghai calendar period that one activity is of.

    edge_gap_h  the first and the last period of a meter are sent only when its readings come to within so many hours
                of its edges: a file cut off in the middle of a month must not decide that month for good
    cut_at      clock times of Asia/Shanghai, `06:00`, at which readings are never joined: the edges of the windows of
                the methodology, where it has any
    """

    unit: Literal["day", "month"]
    edge_gap_h: Annotated[int, Field(ge=0, le=744)] = 1
    cut_at: tuple[Annotated[str, StringConstraints(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("cut_at"), list):
            return value | {"cut_at": tuple(value["cut_at"])}
        return value


class BaselineFrom(Part):
    """A baseline filled from the same files: the same period a year earlier, or so many units before."""

    of: str
    origin: Annotated[Literal["earlier_year", "preceding"], Field(alias="from")]
    periods: Annotated[int, Field(ge=1, le=36)] = 1


class MeterColumns(Part):
    """Whose meter it is: the person, and what tells one meter from another (the person, where it is not given)."""

    subject: Text
    meter: Text | None = None


_QUANTITY = re.compile(r"[a-z][a-z0-9_]*_kwh")


class ReadingsFeed(Feed):
    """One row is one reading, of one or more quantities."""

    kind: Literal["readings"]
    columns: MeterColumns
    time: ReadingTime
    readings: Annotated[dict[str, Quantity], Field(min_length=1, max_length=8)]
    period: PeriodOf
    baseline: dict[str, BaselineFrom] = Field(default_factory=dict)

    def _own_columns(self) -> list[str]:
        texts = [self.columns.subject, self.columns.meter, self.time.column]
        return [one for one in texts if isinstance(one, str)] + [
            column for spec in self.readings.values() for column in spec.column
        ]

    @model_validator(mode="after")
    def _measured(self) -> "ReadingsFeed":
        for name, spec in self.readings.items():
            if not _QUANTITY.fullmatch(name):
                raise ValueError("names of readings that end in _kwh, such as use_kwh")
            if spec.times is not None and spec.times not in self.inputs:
                raise ValueError(f"an input {spec.times}, which the readings {name} are multiplied by")
            if not spec.register_reading and self.time.step_s is None:
                raise ValueError(f"time.step_s, the length of an interval of {name}")
        for baseline in self.baseline.values():
            if baseline.of not in self.readings:
                raise ValueError(f"readings {baseline.of}, which the baseline is of")
        if len({spec.register_reading for spec in self.readings.values()}) > 1:
            raise ValueError("registers alone, or none: write a feed for each")
        if any(isinstance(spec, StraightLine | StationDistance) for spec in self.inputs.values()):
            raise ValueError("no distances among the inputs of a meter")
        return self


class PositionColumns(Part):
    """Where a position record's ride, person, vehicle, time and place stand."""

    event_id: Column
    subject: Column
    vehicle: Column | None = None
    at: TimeColumn
    longitude: Column
    latitude: Column


class Track(Part):
    """The input that the positions of a ride make: the sum of the great-circle steps between all of them, in km."""

    input: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*_km$")]
    datum: Datum = "unstated"
    decimals: Decimals


class PositionsFeed(Feed):
    """One row is one position of a ride."""

    kind: Literal["positions"]
    columns: PositionColumns
    track: Track

    def basis_of(self, name: str) -> str:
        return "track" if name == self.track.input else super().basis_of(name)

    def _own_columns(self) -> list[str]:
        columns = self.columns
        wanted = [columns.event_id, columns.subject, columns.at.column, columns.longitude, columns.latitude]
        return wanted if columns.vehicle is None else [*wanted, columns.vehicle]


KINDS: dict[str, type[Feed]] = {
    "trips": TripsFeed,
    "taps": TapsFeed,
    "readings": ReadingsFeed,
    "positions": PositionsFeed,
}
