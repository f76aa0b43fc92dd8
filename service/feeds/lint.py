"""Does a feed give what the methodology of its scenario asks for: inputs in its units, readings, references."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Literal, NamedTuple

from service.feeds.errors import Bilingual
from service.feeds.kinds import Feed, PositionsFeed, ReadingsFeed, TapsFeed, TripsFeed
from service.feeds.model import UNITS, InputConstant, unit_of
from service.quantification.model import Methodology

# What each unit that ends an input's name is called in a methodology
_UNIT_NAMES: Mapping[str, str] = {
    "km": "km",
    "kwh": "kWh",
    "kw": "kW",
    "kg": "kg",
    "m2": "m*m",
    "h": "h",
    "min": "min",
    "s": "s",
    "kwh_per_km": "kWh/km",
    "count": "1",
    "trips": "1",
    "steps": "1",
}


class Finding(NamedTuple):
    """One thing to know before rows are sent: an `error` and the platform refuses them, a `warning` and it may."""

    level: Literal["error", "warning"]
    text: Bilingual


def examine(feed: Feed, methodologies: Sequence[Methodology]) -> list[Finding]:
    """What does not fit between a feed and the versions of its scenario's methodology, in the order of weight."""
    covering = [one for one in methodologies if one.scenario.id == feed.scenario]
    if not covering:
        known = ", ".join(sorted({one.scenario.id for one in methodologies}))
        return [
            _error(
                f"没有方法学覆盖场景 {feed.scenario}；现有：{known}。请更正 scenario。",
                f"no methodology covers the scenario {feed.scenario}; there are {known}. Mend scenario.",
            )
        ]
    found = [finding for one in covering for finding in _against(feed, one)]
    return sorted(dict.fromkeys(found), key=lambda finding: finding.level)


def _against(feed: Feed, rule: Methodology) -> Iterator[Finding]:
    name = f"{rule.id} version {rule.version}"
    if rule.missing:
        lacks = rule.missing[0]
        yield _warning(
            f"{name} 尚不完整，不能计入：{lacks.zh}", f"{name} is incomplete and credits nothing: {lacks.en}"
        )
    else:
        yield from _triggers(feed, rule, name)
        yield from _inputs(feed, rule, name)
        yield from _readings(feed, rule, name)
        yield from _references(feed, rule, name)
    if rule.in_force is not None and feed.source.valid_to is not None and feed.source.valid_to < rule.in_force.first:
        yield _warning(f"{name} 在数据方有效期之后才施行。", f"{name} comes into force after the source has ended.")
    if feed.source.grade == "C":
        yield _warning(
            f"{name}：C 级（自行申报）数据只记减排量，不得积分。",
            f"{name}: evidence of grade C earns grams and no points.",
        )
    if rule.credited_as != rule.status:
        yield _warning(
            f"{name} 含推断的公式或数值，至多按演示计入。",
            f"{name} rests on what was inferred and credits as a demonstration at best.",
        )


def _triggers(feed: Feed, rule: Methodology, name: str) -> Iterator[Finding]:
    match feed:
        case ReadingsFeed():
            fits = rule.trigger == "period"
        case TapsFeed():
            wanted = {"trip"} if feed.taps.entry else set()
            fits = {rule.trigger} == wanted | ({"boarding"} if feed.taps.boarding else set())
        case PositionsFeed():
            fits = rule.trigger == "trip"
        case _:
            fits = rule.trigger != "period" or not rule.readings
    if not fits:
        kind = getattr(feed, "kind", "")
        yield _error(
            f"{name} 按 {rule.trigger} 计入，类别 {kind} 的映射给不出。",
            f"{name} counts by {rule.trigger}, which a feed of kind {kind} does not give.",
        )
    if isinstance(feed, ReadingsFeed) and rule.period is not None and rule.period.unit != feed.period.unit:
        yield _error(
            f"{name} 以 {rule.period.unit} 为期，映射以 {feed.period.unit} 为期。",
            f"{name} counts by the {rule.period.unit}, the feed by the {feed.period.unit}.",
        )


def _inputs(feed: Feed, rule: Methodology, name: str) -> Iterator[Finding]:
    given = set(feed.inputs) | ({feed.track.input} if isinstance(feed, PositionsFeed) else set())
    for missing in sorted(rule.inputs.keys() - given):
        yield _error(
            f"{name} 需要输入 {missing}，映射没有。", f"{name} takes the input {missing}, which the feed lacks."
        )
    for unknown in sorted(given - rule.inputs.keys()):
        yield _error(f"{name} 没有输入 {unknown}，请删除。", f"{name} has no input {unknown}: remove it.")
    for one in sorted(given & rule.inputs.keys()):
        declared, ended = rule.inputs[one].unit, _UNIT_NAMES[unit_of(one) or "count"]
        if declared != ended:
            yield _error(
                f"{name} 的 {one} 单位为 {declared}，映射所给为 {ended}。",
                f"{name} takes {one} in {declared}; the feed gives {ended}.",
            )
        spec = feed.inputs.get(one)
        if isinstance(spec, InputConstant):
            value = Decimal(spec.constant) * UNITS[unit_of(one) or "count"][spec.unit]
            low, high = rule.inputs[one].low, rule.inputs[one].high
            if not low <= value <= high:
                yield _error(
                    f"{name} 的 {one} 应在 {low} 至 {high} 之间，常数为 {value}。",
                    f"{name} takes {one} from {low} to {high}; the constant is {value}.",
                )


def _readings(feed: Feed, rule: Methodology, name: str) -> Iterator[Finding]:
    given = feed.readings.keys() if isinstance(feed, ReadingsFeed) else set[str]()
    for missing in sorted(rule.readings.keys() - given):
        yield _error(
            f"{name} 需要读数 {missing}，映射没有。", f"{name} takes readings {missing}, which the feed lacks."
        )
    for unknown in sorted(given - rule.readings.keys()):
        yield _error(f"{name} 没有读数 {unknown}，请删除。", f"{name} has no readings {unknown}: remove them.")
    if not isinstance(feed, ReadingsFeed):
        return
    for one, spec in rule.baseline.items():
        told = feed.baseline.get(one)
        wanted = f"{{of: {spec.of}, from: {spec.origin}, periods: {spec.periods}}}"
        if told is None or (told.of, told.origin, told.periods) != (spec.of, spec.origin, spec.periods):
            yield _error(f"{name} 需要基准 {one}: {wanted}。", f"{name} takes a baseline {one}: {wanted}.")
    for unknown in sorted(feed.baseline.keys() - rule.baseline.keys()):
        yield _error(f"{name} 没有基准 {unknown}，请删除。", f"{name} has no baseline {unknown}: remove it.")
    edges = {
        f"{second // 3600:02}:{second % 3600 // 60:02}"
        for reading in rule.readings.values()
        for window in reading.windows.values()
        for second in (window.begins_s % 86_400, window.ends_s % 86_400)
    }
    uncut = sorted(edges - set(feed.period.cut_at))
    if uncut:
        yield _error(
            f"{name} 按时段计量，period.cut_at 应含 {'、'.join(uncut)}。",
            f"{name} counts by windows of the day: period.cut_at needs {', '.join(uncut)}.",
        )


def _references(feed: Feed, rule: Methodology, name: str) -> Iterator[Finding]:
    given: set[str] = set(feed.references)
    if isinstance(feed, TripsFeed | TapsFeed | PositionsFeed) and feed.columns.vehicle is not None:
        given.add("vehicle")
    for claim in rule.claims:
        lacking = [one for one in claim.of if one not in given]
        if lacking and not claim.optional:
            yield _error(
                f"{name} 以 {'、'.join(claim.of)} 防止重复计算，映射缺少 {'、'.join(lacking)}。",
                f"{name} counts a thing once by {', '.join(claim.of)}; the feed lacks {', '.join(lacking)}.",
            )


def _error(zh: str, en: str) -> Finding:
    return Finding("error", Bilingual(zh=zh, en=en))


def _warning(zh: str, en: str) -> Finding:
    return Finding("warning", Bilingual(zh=zh, en=en))
