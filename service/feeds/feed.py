"""The feed document: parse it strictly, once.

docs/feeds.md lists its fields; model.py and kinds.py say what they mean.
"""

from pathlib import Path

import yaml
from pydantic import ValidationError

from service.feeds.errors import FeedDocumentError
from service.feeds.kinds import KINDS, Feed

_SHIPPED = Path(__file__).parent
SHIPPED_RIDES = _SHIPPED / "data" / "valleybike-2018.csv.gz"
"""12,000 real rides in the form of the feed `valleybike`; data/NOTICE says where they come from and on what terms."""


def list_feeds() -> tuple[Feed, ...]:
    """The feeds that ship with the platform, by id."""
    return tuple(_read(path) for path in sorted(_SHIPPED.glob("*.yaml")))


def load_feed(name_or_path: str | Path) -> Feed:
    """A feed that ships with the platform, by its id, or any other by the path of its YAML document.

    Raises FeedDocumentError: no such feed, not readable, not YAML, a field missing, unknown or wrong (with its line).
    """
    shipped = {path.stem: path for path in _SHIPPED.glob("*.yaml")}
    path = shipped.get(str(name_or_path), Path(name_or_path))
    if not path.exists():
        known = ", ".join(sorted(shipped))
        raise FeedDocumentError(
            en=f"Expected the name of a feed ({known}) or the path of a feed document; there is no {name_or_path}. "
            "Check the spelling.",
            zh=f"应为数据映射名称（{known}）或映射文档的路径；找不到 {name_or_path}，请检查拼写。",
        )
    return _read(path)


def _read(path: Path) -> Feed:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FeedDocumentError(
            en=f"{path}: expected a feed document, YAML in UTF-8; it cannot be read ({error}). Give one that can.",
            zh=f"{path}：应为 UTF-8 编码的 YAML 映射文档，但无法读取（{error}），请换一个可读的文件。",
        ) from error
    return parse_feed(text, str(path), path.parent)


def parse_feed(text: str, name: str, folder: Path | None = None) -> Feed:
    """Parse a feed document; `name` stands in front of messages, `folder` is where tables beside the feed are.

    Raises FeedDocumentError.
    """
    lines: dict[tuple[str, ...], int] = {}
    try:
        # An alias could nest a document without end, and a feed needs none.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise yaml.YAMLError("aliases (*name) are not allowed here; write the value out")
        loader = yaml.SafeLoader(text)
        document = _plain(loader, loader.get_single_node(), (), lines)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FeedDocumentError(
            en=f"{name}: expected a YAML document; {error}. Mend it there.",
            zh=f"{name}：应为 YAML 文档；{error}。请在该处更正。",
        ) from error
    try:
        return _placed(_kind(document, name, lines).model_validate(document), folder or Path())
    except ValidationError as error:
        faults = [_describe(fault, lines) for fault in error.errors(include_url=False)]
        raise FeedDocumentError(
            en="\n".join(f"{name} {en}" for en, _ in faults), zh="\n".join(f"{name} {zh}" for _, zh in faults)
        ) from error


def _kind(document: object, name: str, lines: dict[tuple[str, ...], int]) -> type[Feed]:
    kind = document.get("kind", "trips") if isinstance(document, dict) else "trips"
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind]
    line, known, came = lines.get(("kind",), 1), ", ".join(KINDS), str(kind)[:60]
    raise FeedDocumentError(
        en=f"{name} line {line}: kind: expected: one of {known}; came {came!r}. Change it.",
        zh=f"{name} 第 {line} 行：kind 应为 {known} 之一，现为 {came!r}，请更正。",
    )


def _placed(feed: Feed, folder: Path) -> Feed:
    """The feed with the tables that stand beside its document told where that is."""
    if not any(table.beside == "feed" for table in (*feed.tables.values(), *feed.stations.values())):
        return feed
    at = {"folder": str(folder.resolve())}
    tables = {name: table.model_copy(update=at) for name, table in feed.tables.items()}
    stations = {name: table.model_copy(update=at) for name, table in feed.stations.items()}
    return feed.model_copy(update={"tables": tables, "stations": stations})


def _plain(
    loader: yaml.SafeLoader, node: yaml.Node | None, path: tuple[str, ...], lines: dict[tuple[str, ...], int]
) -> object:
    """The node as plain values; `lines` learns each field's line. A key given twice is refused: YAML keeps the last."""
    if isinstance(node, yaml.MappingNode):
        found: dict[str, object] = {}
        for key_node, value_node in node.value:
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in found:
                raise yaml.YAMLError(f"line {line}: the field {key} stands twice; keep one")
            lines[(*path, key)] = line
            found[key] = _plain(loader, value_node, (*path, key), lines)
        return found
    return None if node is None else loader.construct_object(node, deep=True)


def _describe(fault: object, lines: dict[tuple[str, ...], int]) -> tuple[str, str]:
    """One fault of pydantic's, in English and Chinese, with the line it stands on."""
    assert isinstance(fault, dict)
    path = _longest_known(fault["loc"], lines)
    line = lines.get(path, 1)
    last = str(fault["loc"][-1]) if fault["loc"] else "document"
    match fault["type"]:
        case "missing":
            where = ".".join((*path, last))
            return (
                f"line {line}: expected a field {where}; it is missing. Add it.",
                f"第 {line} 行：缺少字段 {where}，请补上。",
            )
        case "extra_forbidden":
            where = ".".join(path)
            return (
                f"line {line}: {where} is not a field of a feed. Remove it, or mend its spelling.",
                f"第 {line} 行：{where} 不是映射文档的字段，请删除或更正拼写。",
            )
        case _:
            where = ".".join(path) or "document"
            expected = fault["msg"].removeprefix("Value error, ")
            return (
                f"line {line}: {where}: expected: {expected}; came {str(fault['input'])[:60]!r}. Change it.",
                f"第 {line} 行：{where} 不合要求（应为：{expected}），现为 {str(fault['input'])[:60]!r}，请更正。",
            )


def _longest_known(loc: tuple[object, ...], lines: dict[tuple[str, ...], int]) -> tuple[str, ...]:
    """The part of pydantic's location that stands in the document; it also names branches of unions, which do not."""
    path: tuple[str, ...] = ()
    for step in loc:
        if (*path, str(step)) in lines:
            path = (*path, str(step))
    return path
