"""Places, data and distances: known points, inverses, the network of a metro; tracks of raw positions."""

import itertools
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.feeds import FeedFileError, load_feed
from service.feeds.model import Datum
from service.feeds.places import great_circle_km, to_wgs84, wgs84_to_gcj02
from service.feeds.tables import load_network
from tests.service.feeds.making import FEEDS, feed_like, read, written

METRO = load_feed("shanghai-metro-trips")
STATIONS = METRO.stations["metro"]
NETWORK = load_network(STATIONS, Path())


def test_known_points_of_each_datum() -> None:
    """People's Square, Shanghai: maps show it half a kilometre to the south-east."""
    wgs84 = (121.4692, 31.2323)
    gcj02 = wgs84_to_gcj02(wgs84)
    assert 0.4 < great_circle_km(wgs84, gcj02) < 0.6
    assert gcj02[0] > wgs84[0], "the offset is to the east"
    assert gcj02[1] < wgs84[1], "and to the south"
    assert wgs84_to_gcj02((-72.63, 42.32)) == (-72.63, 42.32), "none outside China"


@given(st.floats(74, 134), st.floats(18, 53))
def test_there_and_back(lon: float, lat: float) -> None:
    back = to_wgs84(wgs84_to_gcj02((lon, lat)), "gcj02")
    assert great_circle_km(back, (lon, lat)) < 1e-6  # a millimetre


def bd09(lon: float, lat: float) -> tuple[float, float]:
    """The formula as it is published, for WGS 84."""
    from math import atan2, cos, hypot, pi, sin

    x, y = wgs84_to_gcj02((lon, lat))
    turn = pi * 3000 / 180
    z, theta = hypot(x, y) + 0.00002 * sin(y * turn), atan2(y, x) + 0.000003 * cos(x * turn)
    return z * cos(theta) + 0.0065, z * sin(theta) + 0.006


@given(st.floats(100, 122), st.floats(22, 45))
def test_bd09_and_back(lon: float, lat: float) -> None:
    assert great_circle_km(to_wgs84(bd09(lon, lat), "bd09"), (lon, lat)) < 1e-6


HEADING = "orderid,bikeid,userid,start_time,start_location_x,start_location_y,end_time,end_location_x,end_location_y"


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("gcj02", "gcj02", "1.112"),  # the same datum: as they stand
        ("unstated", "unstated", "1.112"),
        ("wgs84", "gcj02", None),  # the second converted to the first
    ],
)
def test_positions_of_stated_data(tmp_path: Path, start: Datum, end: Datum, expected: str | None) -> None:
    feed = feed_like(
        "mobike-shanghai",
        ("start_location_y, datum: unstated", f"start_location_y, datum: {start}"),
        ("end_location_y, datum: unstated", f"end_location_y, datum: {end}"),
    )
    ride = "1,2,3,2026-05-01 08:00,121.500,31.300,2026-05-01 08:10,121.500,31.310"
    (row,), _, _ = read(feed, [written(tmp_path / "m.csv", HEADING, ride)])
    converted = great_circle_km((121.5, 31.3), to_wgs84((121.5, 31.31), "gcj02"))
    assert row.inputs["distance_km"] == Decimal(expected or f"{converted:.3f}")
    assert abs(converted - 1.112) > 0.1 or expected


def test_the_table_of_stations_is_what_its_notice_says() -> None:
    text = (FEEDS / "data" / "shanghai-metro-stations.csv").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 303
    notice = (FEEDS / "data" / "NOTICE").read_text(encoding="utf-8")
    assert "shanghai-metro-stations.csv" in notice
    assert "Copyright (c) 2023 Tobias Vlcek" in notice


def test_the_network_against_every_other_way() -> None:
    """Against Floyd and Warshall's relaxation over all pairs of forty stations around People's Square."""
    import csv

    with (FEEDS / "data" / "shanghai-metro-stations.csv").open(encoding="utf-8") as file:
        rows = {row["stationID"]: row for row in csv.DictReader(file)}
    places = {key: (float(row["lon"]), float(row["lat"])) for key, row in rows.items()}
    length = {(one, one): 0.0 for one in rows}
    for key, row in rows.items():
        for other in row["neighbour"].strip("[]").split(", "):
            if other in rows:
                length[key, other] = length[other, key] = great_circle_km(places[key], places[other])
    near = sorted(rows, key=lambda one: great_circle_km(places[one], (121.4692, 31.2323)))
    infinite = float("inf")
    for middle in rows:
        through = [one for one in rows if length.get((one, middle), infinite) < infinite]
        for one, other in itertools.combinations(through, 2):
            way = length[one, middle] + length[middle, other]
            if way < length.get((one, other), infinite):
                length[one, other] = length[other, one] = way
    for one, other in itertools.combinations(near[:40], 2):
        assert NETWORK.along(one, other) == pytest.approx(length[one, other], abs=1e-9)
        assert NETWORK.along(one, other) >= NETWORK.straight_line(one, other) - 1e-9


TRIPS = "trip_id,user_id,entry_time,exit_time,entry_station,exit_station"


def test_a_trip_between_two_stations(tmp_path: Path) -> None:
    rows = [f"t{n},u,2026-05-01 08:00,2026-05-01 08:30,2050,{end}" for n, end in enumerate(("2041", "2050", "9", ""))]
    path = written(tmp_path / "t.csv", TRIPS, *rows)
    good, bad, _ = read(METRO, [path])
    expected = f"{NETWORK.along('2050', '2041'):.3f}"
    assert [str(row.inputs["distance_km"]) for row in good] == [expected, "0.000"]
    assert [one.reason for one in bad] == ["unknown-station"] * 2
    straight = feed_like("shanghai-metro-trips", ("along: network", "along: straight_line"))
    (row, *_), _, _ = read(straight, [path])
    assert row.inputs["distance_km"] <= good[0].inputs["distance_km"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["id,x,y,near", "1,121,31,2", "1,121,31,2"], "line 3: expected a table .* 1 stands twice"),
        (["id,x,near", "1,121,2"], "the columns y are missing"),
        (["id,x,y,near", "1,121,91,"], "station 1: y: expected degrees"),
        (["id,x,y,near", "1,121"], "came 2 cells"),
    ],
)
def test_a_faulty_table_is_refused(tmp_path: Path, lines: list[str], said: str) -> None:
    stations = {
        "metro": {"file": "s.csv", "key": "id", "longitude": "x", "latitude": "y", "datum": "wgs84", "links": "near"}
    }
    feed = feed_like("shanghai-metro-trips", stations=stations)
    written(tmp_path / "s.csv", *lines)
    with pytest.raises(FeedFileError, match=said):
        read(feed, [written(tmp_path / "t.csv", TRIPS)])
    apart = written(tmp_path / "s.csv", "id,x,y,near", "1,121,31,7", "2,121,31.1,")
    assert apart.exists()
    _, (bad,), _ = read(feed, [written(tmp_path / "t.csv", TRIPS, "t,u,2026-05-01 08:00,2026-05-01 08:30,1,2")])
    assert bad.reason == "stations-not-joined"


POSITIONS = load_feed("valleybike-positions")
HEAD = ["Routes & locations,,,,,,", ",,,,,,", "Route ID,Bike,Date,Latitude,Longitude,User ID"]


def test_a_ride_of_raw_positions(tmp_path: Path) -> None:
    def record(second: int, lat: str, ride: str = "r1", rider: str = "u1") -> str:
        return f'{ride},"1,239",2018-07-04 06:10:{second:02}+00,{lat},-72.63,{rider}'

    day = written(tmp_path / "a.csv.gz", *HEAD, record(20, "42.32"), record(0, "42.30"), packed=True)
    next_day = written(
        tmp_path / "b.csv", *HEAD, record(10, "42.30"), record(10, "42.30"), record(30, ""), record(5, "1", "r2")
    )
    (row, single), bad, _ = read(POSITIONS, [day, next_day])
    assert (row.event_id, row.subject, row.vehicle, row.rows) == ("r1", "u1", "1,239", range(1, 4))
    assert f"{row.started_at:%S} {row.ended_at:%S}" == "00 20"
    assert row.inputs == {"distance_km": Decimal("2.224")}  # a fiftieth of a degree: 6371.0088 * pi / 180 / 50
    assert single.inputs == {"distance_km": Decimal("0.000")}
    assert sorted((one.number, one.reason) for one in bad) == [(4, "duplicate-row"), (5, "malformed-row")]
    shared = written(tmp_path / "c.csv", *HEAD, record(0, "42.3"), record(5, "42.3", rider="u2"))
    _, (bad_ride,), _ = read(POSITIONS, [shared])
    assert (bad_ride.reason, bad_ride.rows) == ("several-riders", range(1, 3))
