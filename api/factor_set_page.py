"""Factor sets as pages to read, in Markdown, Chinese beside English: what `tanpuhui methodology factors` prints and
docs/factor-sets.md holds. Everything on them is in the documents."""

from collections.abc import Iterable, Iterator

from api.problems import word
from service.quantification.document import Bilingual
from service.quantification.expression import plain
from service.quantification.factor_sets import FactorSet, SetFigure
from service.quantification.model import Methodology


def factor_sets_page(factor_sets: Iterable[FactorSet], methodologies: Iterable[Methodology]) -> Iterator[str]:
    """All of them, and which methodologies pin each."""
    rules = tuple(methodologies)
    yield "# 因子集 · Factor sets"
    yield from (
        "",
        "每次公布的电力因子自成一个因子集，内容永不改变；方法学的因子注明取自哪个因子集的哪个数值及其摘要，三者不符即不被接受。"
        "统计口径的因子与交易体系的取值不是同一个量，不可互换。",
        "",
        "The electricity factors of each announcement are a set of their own, which never changes. A methodology says "
        "which figure of which set a factor was taken from, and the digest of the set; where they do not agree it is "
        "refused. A statistical factor and the value of a trading scheme are different quantities: one does not stand "
        "for the other.",
    )
    for one in factor_sets:
        yield from ("", f"## {one.title.zh} · {one.title.en}", "", *factor_set_page(one, rules, "###"))


def factor_set_page(factor_set: FactorSet, methodologies: Iterable[Methodology], level: str) -> Iterator[str]:
    """One set without its title: what it is, its figures, its sources."""
    yield from ("| | |", "| --- | --- |")
    for zh, en, told in (
        ("编号", "id", f"`{factor_set.id}`"),
        ("摘要", "digest", f"`{factor_set.digest}`"),
        ("发布方", "issuer", _both(factor_set.issuer)),
        ("文号", "document", _both(factor_set.announcement)),
        ("发布", "published", f"{word(factor_set.published, 'zh')}" + _in_english(factor_set.published)),
        ("口径", "quantity", _both(factor_set.quantity)),
        ("单位", "unit", f"{factor_set.unit}"),
        ("引用", "pinned by", ", ".join(_pinning(factor_set, methodologies)) or "–"),
    ):
        yield f"| {zh} {en} | {_cell(told)} |"
    yield from ("", f"{level} 数值 · Figures", "")
    yield from (
        "| 数值 figure | 取值 value | 含义 meaning | 可信度 confidence | 来源 source | 说明 note |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    yield from (f"| {' | '.join(map(_cell, _row(one, factor_set.unit)))} |" for one in factor_set.figures.values())
    if factor_set.notes:
        yield from ("", f"{level} 说明 · Notes", "", *(f"- {_both(note)}" for note in factor_set.notes))
    yield from ("", f"{level} 来源 · Sources", "")
    for source in factor_set.sources:
        link = f" <{source.url}>" if source.url else ""
        published = word(source.published, "zh") + _in_english(source.published)
        yield f"- `{source.id}` {_both(source.title)}, {_both(source.publisher)}, {published}.{link}"


def _row(figure: SetFigure, unit: str) -> tuple[str, ...]:
    value = "未找到 not found" if figure.value is None else f"{plain(figure.value)} {unit}"
    confidence = "–"
    if figure.confidence is not None:
        confidence = f"{word(figure.confidence, 'zh')} {word(figure.confidence, 'en')}"
    if figure.quality:
        confidence += "；来源质量低 a source of low quality"
    source, note = figure.source.id if figure.source else "–", _both(figure.note) if figure.note else ""
    return f"`{figure.name}`", value, _both(figure.meaning), confidence, source, note


def _pinning(factor_set: FactorSet, methodologies: Iterable[Methodology]) -> Iterator[str]:
    for one in methodologies:
        pins = [value.pinned for factor in one.factors.values() for value in factor.values if value.pinned]
        figures = sorted({pin.figure for pin in pins if pin.digest == factor_set.digest})
        if figures:
            yield f"`{one.id}` {one.version} ({', '.join(f'`{name}`' for name in figures)})"


def _both(text: Bilingual) -> str:
    return text.zh if text.zh == text.en else f"{text.zh} · {text.en}"


def _in_english(published: str) -> str:
    """The word for unknown once more; a date is the same in both languages."""
    return "" if word(published, "en") == published else f" · {word(published, 'en')}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
