"""The pages that are made from the rule documents are what the documents say: one of each methodology, one of all
factor sets, one of the same acts everywhere.

`.venv/bin/python -m tests.test_docs --write` renews them.
"""

from pathlib import Path

from api.comparison_page import TYPICAL, same_act_page
from api.factor_set_page import factor_sets_page
from api.methodology_page import page
from service.activities.rules import RuleBook, read_documents
from service.approvals import Approvals
from service.quantification.comparing import acts_of
from service.quantification.model import STATUSES, Methodology

DOCS = Path(__file__).parent.parent / "docs"
GENERATED_PAGE = "<!-- from the documents; renewed by .venv/bin/python -m tests.test_docs --write -->"


def shipped_rules() -> RuleBook:
    """The shipped documents as a deployment reads them that credits under every status."""
    methodologies, points_rules, factor_sets = read_documents(None)
    posted = (methodologies.digests, points_rules.digests)
    return RuleBook(methodologies, points_rules, {}, *posted, frozenset(STATUSES), Approvals(), factor_sets=factor_sets)


def pages() -> dict[str, str]:
    """Every generated page by its path below docs/; a methodology's is of its newest version."""
    rules = shipped_rules()
    versions: dict[str, list[Methodology]] = {}
    for one in rules.methodologies.all():
        versions.setdefault(one.id, []).append(one)
    written = {f"methodologies/{name}.md": page(ones, ones[-1], ("zh", "en")) for name, ones in versions.items()}
    written["factor-sets.md"] = factor_sets_page(rules.factor_sets.values(), rules.methodologies.all())
    written["same-act-elsewhere.md"] = same_act_page(rules)
    return {name: "\n".join((*lines, "", GENERATED_PAGE, "")) for name, lines in written.items()}


def test_every_document_has_its_page_and_every_page_its_document() -> None:
    expected = pages()
    found = {f"methodologies/{path.name}" for path in (DOCS / "methodologies").glob("*.md")}
    assert found == {name for name in expected if name.startswith("methodologies/")}
    for name, text in expected.items():
        written = (DOCS / name).read_text("utf-8")
        assert written == text, f"docs/{name}: renew it by .venv/bin/python -m tests.test_docs --write"


def test_pages_name_every_digest() -> None:
    rules, written = shipped_rules(), pages()
    for one in rules.methodologies.all():
        assert one.digest in written[f"methodologies/{one.id}.md"]
    for factor_set in rules.factor_sets.values():
        assert factor_set.digest in written["factor-sets.md"]


def test_the_acts_of_the_page_are_ten_and_there_are_documents_about_each() -> None:
    rules, text = shipped_rules(), pages()["same-act-elsewhere.md"]
    assert len(TYPICAL) == 10
    assert {act.act for act in TYPICAL} <= set(acts_of(rules.methodologies.all()))
    for one in rules.methodologies.all():
        assert one.act not in {act.act for act in TYPICAL} or f"[{one.id}](methodologies/{one.id}.md)" in text


def write_pages() -> None:
    """Renew them."""
    written = pages()
    for path in (DOCS / "methodologies").glob("*.md"):
        if f"methodologies/{path.name}" not in written:
            path.unlink()
    for name, text in written.items():
        (DOCS / name).write_text(text, "utf-8")
