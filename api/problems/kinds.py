"""What a problem type is: its texts in both languages, its status, and whether it is final."""

from dataclasses import dataclass
from string import Formatter
from typing import Literal, NamedTuple

Language = Literal["zh", "en"]

QUOTA_EXCEEDED_TYPE = "https://iana.org/assignments/http-problem-types#quota-exceeded"

StepName = Literal[
    "address",
    "token",
    "scope",
    "media",
    "json",
    "quota",
    "form",
    "source",
    "signature",
    "earlier",
    "calendar",
    "rules",
    "figures",
    "consent",
    "corrected",
    "registers",
    "once",
    "records",
    "posting",
]
"""The steps in the order of checks; api/problems/order.py says what each is."""


class Text(NamedTuple):
    """One text in both languages."""

    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One row of the table.

    final    the answer is stored with the event and given again; otherwise nothing was kept and it may be sent again
    shown    parameters that are also members of the document, for programs
    uri      the type's address where it is not the platform's own
    """

    slug: str
    status: int
    title: Text
    detail: Text
    remedy: Text
    final: bool = False
    shown: tuple[str, ...] = ()
    uri: str | None = None

    @property
    def parameters(self) -> frozenset[str]:
        """What the detail cannot be written without, a translated parameter under its plain name."""
        named = (name for text in self.detail for _, name, _, _ in Formatter().parse(text) if name)
        return frozenset(named) | frozenset(self.shown)


def by_slug(*rows: ProblemType) -> dict[str, ProblemType]:
    """The rows of one room by their slugs, in their order."""
    return {row.slug: row for row in rows}


FINAL = Text(
    "此结论不再改变；若原数据有误，请以新的 id 报送。",
    "This answer is final; if your record was wrong, report it under a new id.",
)
CORRECT = Text("改正后，用同一 id 重发。", "Correct it and send it again, same id.")
