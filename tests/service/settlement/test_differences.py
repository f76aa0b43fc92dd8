"""Two books of one day: they agree exactly when they say the same, each alteration has its reason, and the differences
account for the whole gap."""

from collections import Counter
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.settlement.bank_file import BankFile, Line, sums_of
from service.settlement.differences import REASONS, Difference, compare, differences_document, read_differences
from service.settlement.statement import MEASURES, Entry
from tests.service.settlement.drawing import DAY, days_entries, entries, file_of, ids, line_of

Books = tuple[list[Entry], BankFile]


def found(ours: list[Entry], theirs: BankFile, **known: object) -> tuple[Difference, ...]:
    named = {line.redemption_id for line in theirs.lines}
    return compare(ours, theirs, other_days=known.get("other_days", {}), known=known.get("known", named))  # type: ignore[arg-type]  # as the test gives them


def reasons(differences: tuple[Difference, ...]) -> list[str]:
    return [difference.reason for difference in differences]


@st.composite
def books(draw: st.DrawFn) -> Books:
    """Our entries, and a file that has some of them, some altered, some twice, and some of nobody's."""
    ours = draw(days_entries)
    lines: list[Line] = []
    for entry in ours:
        if draw(st.booleans()):
            lines.append(line_of(entry, 0))
        if draw(st.integers(0, 3)) == 0:
            change = draw(st.sampled_from(["value_fen", "units", "kind", "redemption_id"]))
            value = {"kind": "refund", "redemption_id": UUID(int=7)}.get(change, draw(st.integers(0, 10**9)))
            lines.append(replace(line_of(entry, 0), **{change: value}))  # type: ignore[arg-type]  # one of four fields
    lines += [line_of(entry, 0) for entry in draw(st.lists(entries(), max_size=3))]
    lines = draw(st.permutations(lines))
    return ours, BankFile(tuple(replace(line, number=place + 2) for place, line in enumerate(lines)), {})


@given(days_entries, st.booleans(), st.randoms(use_true_random=False))
def test_the_same_in_any_order_agrees(ours: list[Entry], brief: bool, random: object) -> None:
    turned = list(ours)
    random.shuffle(turned)  # type: ignore[attr-defined]  # Hypothesis draws a random.Random
    assert found(ours, file_of(turned, brief=brief)) == ()


@given(books())
def test_they_agree_exactly_when_they_say_the_same(pair: Books) -> None:
    ours, theirs = pair
    said = Counter(replace(line, number=0) for line in theirs.lines)
    meant = Counter(line_of(entry, 0) for entry in ours)
    assert (found(ours, theirs) == ()) == (said == meant)


@given(books())
def test_the_differences_account_for_the_whole_gap(pair: Books) -> None:
    ours, theirs = pair
    gap = sum(line.value_fen for line in theirs.lines) - sum(entry.value_fen for entry in ours)
    assert sum(difference.value_fen for difference in found(ours, theirs)) == gap


@given(books())
def test_nothing_is_left_without_its_reason_and_nothing_has_two(pair: Books) -> None:
    ours, theirs = pair
    differences = found(ours, theirs)
    assert {difference.reason for difference in differences} <= REASONS.keys()
    whole = [d for d in differences if d.reason not in ("amount-differs", "kind-differs", "redemption-differs")]
    places = [(d.reason == "missing-there", d.line if d.line else d.transfer_id) for d in whole]
    assert len(places) == len(set(places))
    assert read_differences(differences_document(differences)) == differences


@given(days_entries, entries())
def test_what_one_side_alone_has_is_missing_at_the_other(ours: list[Entry], extra: Entry) -> None:
    assume(all(entry.transfer_id != extra.transfer_id for entry in ours))
    (missing,) = found([*ours, extra], file_of(ours))
    assert (missing.reason, missing.transfer_id, missing.line) == ("missing-there", extra.transfer_id, None)
    assert missing.value_fen == -extra.value_fen
    theirs = file_of([*ours, extra])
    for known, reason in (({extra.redemption_id}, "missing-here"), (set(), "unknown-redemption")):
        (missing,) = found(ours, theirs, known=known)
        assert (missing.reason, missing.line, missing.value_fen) == (reason, len(ours) + 2, extra.value_fen)
    (moved,) = found(ours, theirs, other_days={extra.transfer_id: DAY})
    assert (moved.reason, moved.ours) == ("wrong-day", "2026-05-01")


@pytest.mark.parametrize("measure", MEASURES)
@given(entry=entries(), rest=days_entries, by=st.integers(1, 10**6))
def test_another_amount_is_named_with_both(measure: str, entry: Entry, rest: list[Entry], by: int) -> None:
    assume(all(other.transfer_id != entry.transfer_id for other in rest))
    theirs = file_of([*rest, replace(entry, **{measure: getattr(entry, measure) + by})])
    (difference,) = found([*rest, entry], theirs)
    assert (difference.reason, difference.measure) == ("amount-differs", measure)
    assert int(difference.theirs or 0) - int(difference.ours or 0) == by
    assert difference.value_fen == (by if measure == "value_fen" else 0)


@given(entries(), ids)
def test_another_kind_and_another_redemption_are_named(entry: Entry, other: UUID) -> None:
    assume(entry.kind != "hold" and other != entry.redemption_id)
    theirs = BankFile((replace(line_of(entry, 2), kind="hold", redemption_id=other),), {})
    assert reasons(found([entry], theirs)) == ["redemption-differs", "kind-differs"]


@given(entries(), st.integers(2, 4))
def test_a_line_that_comes_again_is_a_duplicate(entry: Entry, times: int) -> None:
    lines = tuple(line_of(entry, number + 2) for number in range(times))
    assert reasons(found([entry], BankFile(lines, {}))) == ["duplicate-line"] * (times - 1)


@given(days_entries, st.sampled_from(["entries", *MEASURES]), st.sampled_from(["hold", "refund"]), st.integers(1, 9))
def test_a_total_that_is_not_the_sum_of_the_lines_is_named(ours: list[Entry], measure: str, kind: str, by: int) -> None:
    theirs = file_of(ours)
    right = getattr(sums_of(theirs.lines)[kind], measure)
    assert found(ours, replace(theirs, totals={kind: {measure: right}})) == ()
    (difference,) = found(ours, replace(theirs, totals={kind: {measure: right + by}}))
    assert (difference.reason, difference.kind, difference.measure) == ("control-total-differs", kind, measure)
    assert (difference.ours, difference.theirs) == (str(right), str(right + by))
