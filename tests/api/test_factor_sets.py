"""Factor sets, public: listed with their figures and with what pins them; their bytes by digest; the command; lint."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from service.quantification.factor_sets import DIRECTORY
from service.quantification.points import DIRECTORY as POINTS_DIRECTORY
from tests.api.test_commands import last_line, run, written
from tests.conftest import Database
from tests.documents import DEMO, DEMO_POINTS, changed
from tests.running import Api, problem_of, running_api
from tests.service.quantification.factor_set_documents import FACTOR_SET, PUBLISHED, SET

pytestmark = pytest.mark.anyio


def rules_dir(folder: Path, **documents: str) -> Path:
    """A deployment's directory with the invented set and what pins it, and these documents beside them."""
    own = folder / "rules"
    for kind, content in (("methodologies", PUBLISHED), ("factor_sets", FACTOR_SET), ("points", None)):
        (own / kind).mkdir(parents=True)
        if content:
            (own / kind / "own.yaml").write_text(content, encoding="utf-8")
    for kind, document in documents.items():
        (own / kind / "more.yaml").write_text(document, encoding="utf-8")
    return own


async def test_a_set_is_shown_with_every_figure_and_what_pins_it(database: Database, tmp_path: Path) -> None:
    async with running_api(database.app, None, tmp_path / "platform", rules_dir=rules_dir(tmp_path)) as api:
        listed = (await api.client.get("/v1/factor-sets", headers={"Accept-Language": "en"})).json()["factor_sets"]
        (shown,) = [one for one in listed if one["id"] == SET.id]
        assert shown == (await api.client.get(f"/v1/factor-sets/{SET.id}", headers={"Accept-Language": "en"})).json()
        assert (shown["digest"], shown["unit"], shown["document"]) == (SET.digest, "kg/kWh", "no. 7")
        told = {one["name"]: (one["value"], one["confidence"], one["quality"]) for one in shown["figures"]}
        assert told == {
            "north-grid": ("0.61", "single", "low"),
            "shanghai": ("0.5737", "confirmed", None),
            "tibet": (None, None, None),
        }
        pin = {"methodology": "our-published", "version": 1, "factor": "grid", "figure": "shanghai"}
        assert shown["pinned_by"] == [pin]
        document = await api.client.get(f"/v1/methodologies/{SET.digest}")
        assert hashlib.sha256(document.content).hexdigest() == SET.digest
        assert document.content == SET.document
        summary = (await api.client.get("/v1/methodologies/our-published/versions/1")).json()
    assert (summary["in_force"], summary["trigger"], summary["act"]) == ("unknown", "unknown", "home-electricity")
    assert summary["unknown"] == ["claim_window", "credit_class", "in_force", "participants", "trigger"]
    assert (summary["part_of"]["id"], summary["baseline_scenario"]) == ("some-table", "未见公布")
    assert (summary["can_credit"], summary["why_not"]) == (False, ["methodology-incomplete"])


async def test_a_set_that_is_not_there_is_a_problem(api: Api) -> None:
    problem_of(await api.client.get("/v1/factor-sets/nothing"), "rule-not-found")
    problem_of(await api.client.get("/v1/factor-sets/Not%20An%20Id"), "malformed-request")


def test_the_command_lists_them_and_shows_one(tmp_path: Path) -> None:
    own = {"TANPUHUI_RULES_DIR": str(rules_dir(tmp_path))}
    told = last_line(run(tmp_path, "methodology", "factors", "--json", **own))
    assert SET.id in {one["id"] for one in told["factor_sets"]}
    assert SET.digest in run(tmp_path, "methodology", "factors", **own).stdout
    page = run(tmp_path, "methodology", "factors", SET.id, **own).stdout
    for word in (SET.digest, "`shanghai` | 0.5737 kg/kWh", "未找到 not found", "`our-published` 1 (`shanghai`)"):
        assert word in page
    one = last_line(run(tmp_path, "methodology", "factors", SET.id, "--json", **own))
    assert (one["id"], len(one["figures"])) == (SET.id, 3)
    missing = run(tmp_path, "methodology", "factors", "nothing", **own)
    assert missing.exit_code == 1
    assert SET.id in missing.stderr


# lint, of every kind


def lint(folder: Path, content: bytes, **variables: str) -> dict[str, Any]:
    done = run(folder, "methodology", "lint", written(folder, content), "--json", **variables)
    told = last_line(done)
    assert done.exit_code == (0 if told["ok"] else 1), done.stderr
    return told


def test_a_wrong_pin_is_refused_with_the_right_digest(tmp_path: Path) -> None:
    own = {"TANPUHUI_RULES_DIR": str(rules_dir(tmp_path))}
    draft = PUBLISHED.replace("id: our-published", "id: our-draft")
    assert lint(tmp_path, draft.encode(), **own)["ok"]
    told = lint(tmp_path, draft.replace(SET.digest, "0" * 64).encode(), **own)
    assert SET.digest in told["reason"]
    assert "digest" in draft.splitlines()[told["line"] - 1]
    told = lint(tmp_path, draft.replace("set: invented-2024", "set: nowhere").encode(), **own)
    assert "nowhere, which is not here" in told["reason"]
    assert "invented-2024" in told["reason"]
    assert "pinned:" in draft.splitlines()[told["line"] - 1]


def test_a_faulty_draft_is_told_before_the_faults_of_others(tmp_path: Path) -> None:
    own = {"TANPUHUI_RULES_DIR": str(rules_dir(tmp_path, methodologies="schema: 1\n"))}
    told = lint(tmp_path, changed(DEMO, ("expected_mg: 82273", "expected_mg: 1")), **own)
    assert "gives 82273 mg" in told["reason"]
    good = run(tmp_path, "methodology", "lint", written(tmp_path, DEMO.encode()), **own)
    assert good.exit_code == 1
    assert "more.yaml" in good.stderr


def test_a_points_rule_is_checked_as_one(tmp_path: Path) -> None:
    own = {"TANPUHUI_RULES_DIR": str(rules_dir(tmp_path, points=DEMO_POINTS.replace("id: demo-", "id: our-")))}
    second = changed(DEMO_POINTS, ("id: demo-", "id: our-"), ("version: 1", "version: 2"))
    told = lint(tmp_path, second.replace(b'points_per_gram: "1"', b"points_per_gram: 2"), **own)
    assert (told["kind"], told["id"], told["version"], told["previous"]["version"]) == ("points", "our-points", 2, 1)
    assert told["figures"] == [{"path": "points_per_gram", "old": "1", "new": "2"}]
    assert "day of recording" in told["recorded_note"]
    for content, reason in (
        (changed(DEMO_POINTS, ("id: demo-", "id: our-"), ("jurisdiction: ", "jurisdiction: x")), "new version"),
        (changed(DEMO_POINTS, ("id: demo-", "id: other-")), "in force on the same days as"),
        (second.replace(b"rounding: floor", b"rounding: up"), "expected one of floor"),
        (second.replace(b'points_per_gram: "1"', b"points_per_gram: 0"), "more than 0 points"),
    ):
        assert reason in lint(tmp_path, content, **own)["reason"], reason


def test_a_factor_set_is_checked_as_one(tmp_path: Path) -> None:
    own = {"TANPUHUI_RULES_DIR": str(rules_dir(tmp_path))}
    told = lint(tmp_path, FACTOR_SET.encode(), **own)
    assert (told["kind"], told["id"], told["digest"]) == ("factor_set", SET.id, SET.digest)
    assert (told["figures"], told["unknown"]) == (3, ["tibet"])
    assert [one["methodology"] for one in told["pinned_by"]] == ["our-published"]
    changed_set = FACTOR_SET.replace("0.5737", "0.5738")
    assert "a set never changes" in lint(tmp_path, changed_set.encode(), **own)["reason"]
    assert lint(tmp_path, changed_set.replace("id: invented", "id: other").encode(), **own)["ok"]
    assert "unknown unit" in lint(tmp_path, FACTOR_SET.replace("kg/kWh", "kg/mile").encode(), **own)["reason"]
    recipe = FACTOR_SET.replace("kind: factor_set", "kind: recipe")
    assert "expected one of factor_set" in lint(tmp_path, recipe.encode(), **own)["reason"]


def test_every_shipped_set_and_points_rule_passes_its_own_lint(tmp_path: Path) -> None:
    for path in (*DIRECTORY.glob("*.yaml"), *POINTS_DIRECTORY.glob("*.yaml")):
        done = run(tmp_path, "methodology", "lint", str(path))
        assert done.exit_code == 0, done.stderr
