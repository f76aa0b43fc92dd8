"""What differs between two versions: fields by path, figures apart; an item more in front changes nothing behind it."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.quantification.methodology import parse_methodology
from service.rule_changes import Change, changes
from tests.documents import DEMO, changed

FIRST = parse_methodology(DEMO.encode())

texts = st.text(max_size=8)
trees: st.SearchStrategy[Any] = st.recursive(
    texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "id", "from"]), inner),
    max_leaves=8,
)


def differences(*replaced: tuple[str, str]) -> dict[str, Change]:
    new = parse_methodology(changed(DEMO, ("version: 1", "version: 2"), *replaced))
    return {change.path: change for change in changes(FIRST.document, new.document)}


def test_a_figure_is_told_with_its_old_and_new_value() -> None:
    found = differences(
        ('value: "35.01"', 'value: "40"'),
        ("expected_mg: 82273", "expected_mg: 94000"),
        ("expected_mg: 3501", "expected_mg: 4000"),
        ("at_most: 10800", "at_most: 7200"),
    )
    assert {path: (one.old, one.new) for path, one in found.items() if one.figure} == {
        "factors.reduction_g_per_pkm.values[2016-01-01].value": ("35.01", "40"),
        "conditions[max-duration].at_most": ("10800", "7200"),
    }
    assert found.keys() - {path for path, one in found.items() if one.figure} == {
        "version",
        "examples[1].expected_mg",
        "examples[2].expected_mg",
    }


def test_what_was_added_and_taken_out_is_told_alone() -> None:
    first_condition = DEMO[DEMO.index("  - id: min-duration") : DEMO.index("  - id: max-duration")]
    found = differences((first_condition, ""))
    assert all(path.startswith(("conditions[min-duration]", "version")) for path in found)
    assert found["conditions[min-duration].at_least"] == Change(
        "conditions[min-duration].at_least", "60", None, figure=True
    )


@given(trees, trees)
def test_changes_name_every_difference_and_nothing_else(before: Any, after: Any) -> None:
    forth, back = (
        changes(json.dumps(a).encode(), json.dumps(b).encode()) for a, b in ((before, after), (after, before))
    )
    assert [(one.path, one.old, one.new) for one in forth] == [(one.path, one.new, one.old) for one in back]
    assert changes(json.dumps(before).encode(), json.dumps(before).encode()) == ()
    assert all(one.old != one.new for one in forth)
