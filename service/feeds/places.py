"""Positions and the distances between them, in floats that are rounded once at the end.

Three data are in use in China. WGS 84 is what satellites give. GCJ-02 is the obligatory offset for maps, 100 to 700 m;
its formula was never published, and the one here is the one in public use (eviltransform, coordtransform), which agrees
with maps to about a metre. BD-09 is Baidu's further offset of GCJ-02 by the formula in public use. Both are inverted by
iteration, to 1e-9 degrees, a tenth of a millimetre: the error is that of the formulas, not of the inversion.
"""

import math
from collections.abc import Callable
from decimal import Decimal

from service.feeds.model import Datum

EARTH_RADIUS_KM = 6371.0088  # the mean radius R1 of the GRS 80 ellipsoid, (2a + b) / 3, as the IUGG gives it

Place = tuple[float, float]  # longitude and latitude, degrees

# The Krasovsky 1940 ellipsoid, which the formula of GCJ-02 uses: semi-major axis in metres, eccentricity squared
_AXIS_M, _ECCENTRICITY_SQUARED = 6_378_245.0, 0.00669342162296594323
_IN_CHINA = (72.004, 137.8347, 0.8293, 55.8271)  # west, east, south, north: outside, GCJ-02 is WGS 84
_BD09_PI = math.pi * 3000 / 180
_STEPS = 30  # the offset changes by less than a hundredth of a step: a handful of steps suffices


def great_circle_km(start: Place, end: Place) -> float:
    """The great-circle distance in km of two places on a sphere of EARTH_RADIUS_KM: the haversine formula in doubles.

    d = 2 R asin sqrt( sin²((φ2-φ1)/2) + cos φ1 cos φ2 sin²((λ2-λ1)/2) )
    """
    (lon1, lat1), (lon2, lat2) = start, end
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half_phi, half_lambda = (phi2 - phi1) / 2, math.radians(lon2 - lon1) / 2
    h = math.sin(half_phi) ** 2 + math.cos(phi1) * math.cos(phi2) * math.sin(half_lambda) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h)))


def rounded_km(distance: float, decimals: int) -> Decimal:
    """A distance rounded once, half-even, to so many decimals.

    At the length of rides a double is exact to some 1e-11 km, so the last digits, in which mathematical libraries
    differ, do not survive the rounding.
    """
    return Decimal(f"{distance:.{decimals}f}")


def straight_line_km(start: Place, end: Place, decimals: int) -> Decimal:
    """The great-circle distance of two places in km, rounded once, half-even, to `decimals`."""
    return rounded_km(great_circle_km(start, end), decimals)


def to_wgs84(place: Place, datum: Datum) -> Place:
    """A place of a stated datum as WGS 84."""
    if datum == "bd09":
        place, datum = _inverse(_gcj02_to_bd09, place), "gcj02"
    return _inverse(wgs84_to_gcj02, place) if datum == "gcj02" else place


def wgs84_to_gcj02(place: Place) -> Place:
    """WGS 84 as GCJ-02, by the formula in public use; outside China unchanged."""
    lon, lat = place
    west, east, south, north = _IN_CHINA
    if not (west <= lon <= east and south <= lat <= north):
        return place
    x, y = lon - 105.0, lat - 35.0
    common = (20 * math.sin(6 * x * math.pi) + 20 * math.sin(2 * x * math.pi)) * 2 / 3
    north_m = -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * math.sqrt(abs(x)) + common
    north_m += (20 * math.sin(y * math.pi) + 40 * math.sin(y / 3 * math.pi)) * 2 / 3
    north_m += (160 * math.sin(y / 12 * math.pi) + 320 * math.sin(y * math.pi / 30)) * 2 / 3
    east_m = 300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * math.sqrt(abs(x)) + common
    east_m += (20 * math.sin(x * math.pi) + 40 * math.sin(x / 3 * math.pi)) * 2 / 3
    east_m += (150 * math.sin(x / 12 * math.pi) + 300 * math.sin(x / 30 * math.pi)) * 2 / 3
    phi = math.radians(lat)
    magic = 1 - _ECCENTRICITY_SQUARED * math.sin(phi) ** 2
    meridian_m = _AXIS_M * (1 - _ECCENTRICITY_SQUARED) / (magic * math.sqrt(magic))
    parallel_m = _AXIS_M / math.sqrt(magic) * math.cos(phi)
    return lon + math.degrees(east_m / parallel_m), lat + math.degrees(north_m / meridian_m)


def _gcj02_to_bd09(place: Place) -> Place:
    lon, lat = place
    z = math.sqrt(lon * lon + lat * lat) + 0.00002 * math.sin(lat * _BD09_PI)
    theta = math.atan2(lat, lon) + 0.000003 * math.cos(lon * _BD09_PI)
    return z * math.cos(theta) + 0.0065, z * math.sin(theta) + 0.006


def _inverse(forward: Callable[[Place], Place], place: Place) -> Place:
    """The place that `forward` moves to the given one, by fixed-point iteration."""
    lon, lat = place
    for _ in range(_STEPS):
        moved = forward((lon, lat))
        off = place[0] - moved[0], place[1] - moved[1]
        lon, lat = lon + off[0], lat + off[1]
        if max(abs(off[0]), abs(off[1])) < 1e-10:
            break
    return lon, lat
