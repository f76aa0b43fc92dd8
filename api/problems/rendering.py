"""From a slug and its parameters to a problem document (RFC 9457) in the reader's language: pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from api.problems.faults import Fault
from api.problems.table import ORDER_OF_CHECKS, PROBLEM_TYPES, Language, ProblemType
from api.problems.words import told

DEFAULT_BASE = "urn:tanpuhui:problem:"
LONGEST_PARAMETER = 200  # characters of a value that a detail repeats
LONGEST_ACCEPT_LANGUAGE = 500

_COMPARISONS: dict[str, tuple[str, str]] = {
    "at_least": ("不小于", "at least"),
    "at_most": ("不大于", "at most"),
    "above": ("大于", "above"),
    "below": ("小于", "below"),
}
_COMPARISONS |= {
    sign: _COMPARISONS[name] for sign, name in zip((">=", "<=", ">", "<"), tuple(_COMPARISONS), strict=True)
}
_PARAMETERS = {slug: kind.parameters for slug, kind in PROBLEM_TYPES.items()}


class Problem(Exception):
    """A named problem with its parameters: raised by a route, or held as a value and rendered.

    slug      a key of PROBLEM_TYPES
    params    what the detail names, as text; a text that differs by language is given twice, as name_zh and name_en
    faults    places in the body, for the problems with `errors`
    members   further members of the document, the same in every language
    headers   of the HTTP answer: WWW-Authenticate, Retry-After, Allow

    Raises KeyError for an unknown slug and TypeError for a missing parameter: both are bugs where it is made.
    """

    def __init__(
        self,
        slug: str,
        /,
        *,
        faults: Sequence[Fault] = (),
        members: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        **params: object,
    ) -> None:
        self.type = PROBLEM_TYPES[slug]
        if faults:
            params.setdefault("count", len(faults))
        self.params = clean(params)
        for name in _PARAMETERS[slug]:
            if name not in self.params and f"{name}_en" not in self.params:
                raise TypeError(f"a problem {slug} needs the parameter {name}, which is missing: give it")
        self.faults = tuple(faults)
        self.members = dict(members or {})
        self.headers = dict(headers or {})
        super().__init__(slug)

    @property
    def slug(self) -> str:
        return self.type.slug

    @property
    def status(self) -> int:
        return self.type.status

    def render(self, language: Language, base: str = DEFAULT_BASE) -> dict[str, Any]:
        """The problem document, without `instance`."""
        document = render(self.slug, self.params, language, base)
        document.update(self.members)
        if self.faults:
            document["errors"] = [fault.render(language) for fault in self.faults]
        return document


def render(slug: str, params: Mapping[str, str], language: Language, base: str = DEFAULT_BASE) -> dict[str, Any]:
    """The problem document of a stored refusal. Never fails on what is stored: a lost parameter is shown as a dash."""
    kind = PROBLEM_TYPES[slug]
    values = _Values(params, language)
    document: dict[str, Any] = {
        "type": kind.uri or base + slug,
        "title": getattr(kind.title, language),
        "status": kind.status,
        "detail": getattr(kind.detail, language).format_map(values),
    }
    for name in kind.shown:
        if name in params:
            document[name] = params[name]
    return document


class _Values:
    """What a template's names stand for in one language."""

    __slots__ = ("_language", "_params")

    def __init__(self, params: Mapping[str, str], language: Language) -> None:
        self._params = params
        self._language = language

    def __getitem__(self, name: str) -> str:
        value = self._params.get(f"{name}_{self._language}")
        if value is None:
            value = self._params.get(name, "—")
        if name == "unit":
            return f" {value}" if value else ""  # a number without a unit leaves no gap
        if name == "comparison" and value in _COMPARISONS:
            return _COMPARISONS[value][self._language == "en"]
        return told(name, value, self._language)


def clean(params: Mapping[str, object]) -> dict[str, str]:
    """Parameters as short printable text: a client's may be long, or hold what neither JSON nor a database takes."""
    return {name: _clean(str(value)) for name, value in params.items()}


def _clean(value: str) -> str:
    if len(value) > LONGEST_PARAMETER:
        value = value[:LONGEST_PARAMETER] + "…"
    if value.isprintable():  # false for control characters, lone surrogates and separators
        return value
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in value)


@lru_cache(maxsize=256)
def negotiate(accept_language: str | None) -> Language:
    """The language of an answer: zh or en, by RFC 9110 quality values.

    Chinese is the default, where nothing is asked for or nothing asked for is at hand: the platform's people are in
    Shanghai. Any Chinese (zh-CN, zh-Hans, zh-HK) takes Simplified Chinese. Of equal wishes the one named first wins.
    """
    if not accept_language:
        return "zh"
    quality: dict[str, float] = {}
    for entry in accept_language[:LONGEST_ACCEPT_LANGUAGE].split(","):
        tag, _, parameters = entry.strip().partition(";")
        primary = tag.strip().lower().partition("-")[0]
        if primary in {"zh", "en", "*"}:
            quality[primary] = max(_quality(parameters), quality.get(primary, 0.0))
    others = quality.pop("*", 0.0)
    english, chinese = quality.get("en", others), quality.get("zh", others)
    named_first = next(iter(quality), "zh")
    return "en" if english > chinese or (english == chinese > 0 and named_first == "en") else "zh"


def _quality(parameters: str) -> float:
    """The q of one entry, 1 when there is none; an entry that cannot be read is not wished for."""
    name, _, value = parameters.partition("=")
    if not parameters.strip():
        return 1.0
    try:
        quality = float(value)
    except ValueError:
        return 0.0
    return quality if name.strip().lower() == "q" and 0.0 <= quality <= 1.0 else 0.0


def content_language(language: Language) -> str:
    """The value of Content-Language."""
    return "zh-CN" if language == "zh" else "en"


@dataclass(frozen=True, slots=True)
class ProblemPage:
    """The page about one problem type, in one language."""

    slug: str
    type: str
    status: int
    title: str
    detail: str
    remedy: str
    final: bool
    members: tuple[str, ...]


def describe_problems(language: Language, base: str = DEFAULT_BASE) -> list[ProblemPage]:
    """A page for every problem type, in the order of the table. The detail is the template, its names in braces."""
    return [_page(kind, language, base) for kind in PROBLEM_TYPES.values()]


def describe_problem(slug: str, language: Language, base: str = DEFAULT_BASE) -> ProblemPage | None:
    """The page about one problem type, or None."""
    kind = PROBLEM_TYPES.get(slug)
    return None if kind is None else _page(kind, language, base)


def _page(kind: ProblemType, language: Language, base: str) -> ProblemPage:
    return ProblemPage(
        slug=kind.slug,
        type=kind.uri or base + kind.slug,
        status=kind.status,
        title=getattr(kind.title, language),
        detail=getattr(kind.detail, language),
        remedy=getattr(kind.remedy, language),
        final=kind.final,
        members=kind.shown,
    )


def describe_checks(language: Language) -> list[tuple[str, tuple[str, ...]]]:
    """The fixed order of checks: what is checked, and the problems it may end with."""
    return [(getattr(step.meaning, language), step.slugs) for step in ORDER_OF_CHECKS]
