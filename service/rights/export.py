"""Access 查阅与可携带: everything that is kept of a person as one JSON document, in bounded memory.

Each page is a statement of its own and nothing is held open in between, so a slow reader burdens nobody; what changes
meanwhile may stand in one section and not yet in another. The schema is person_export_schema().
"""

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from service.database import Connection, Pool
from service.rights.sections import SECTIONS, Opens, Section
from service.vault import (
    DataKey,
    Vault,
    open_evidence,
    open_facts,
    open_terms,
    open_words,
    read_identity,
    read_key,
)

VERSION = "1"
SCHEMA_ID = f"urn:tanpuhui:schema:person-export:{VERSION}"
PAGE = 500  # rows in one statement and in memory: a year's metered half-hours are 30 kB each
_IDENTITY = ("identity", "身份信息", "The identity")


async def export_person(pool: Pool, vault: Vault, participant_id: UUID, made_at: datetime) -> AsyncIterator[bytes]:
    """The document in pieces. Of somebody unknown or erased it holds what is left, which may be nothing."""
    head = {"schema": SCHEMA_ID, "participant_id": str(participant_id), "made_at": made_at}
    yield orjson.dumps(head, option=orjson.OPT_UTC_Z)[:-1] + b',"sections":['
    yield _begin(*_IDENTITY)
    async with pool.acquire() as connection, connection.transaction():
        identity = await read_identity(connection, vault, participant_id, purpose="export")
    yield (orjson.dumps(identity) if identity else b"") + b"]}"
    for section in SECTIONS:
        yield b"," + _begin(section.name, section.zh, section.en)
        async for piece in _items(pool, vault, participant_id, section):
            yield piece
        yield b"]}"
    yield b"]}\n"


def _begin(name: str, zh: str, en: str) -> bytes:
    return orjson.dumps({"name": name, "label": {"zh": zh, "en": en}})[:-1] + b',"items":['


async def _items(pool: Pool, vault: Vault, participant_id: UUID, section: Section) -> AsyncIterator[bytes]:
    after, first = "", True
    while True:
        async with pool.acquire() as connection:
            items, last = await _page(connection, vault, participant_id, section, after)
        if items:
            yield (b"" if first else b",") + b",".join(items)
            first = False
        if last is None:
            return
        after = last


async def _page(
    connection: Connection, vault: Vault, participant_id: UUID, section: Section, after: str
) -> tuple[list[bytes], str | None]:
    """Rows behind a place, and the last one's place where there may be more."""
    rows = await connection.fetch(section.query, participant_id, after, PAGE)
    items = [row["item"].encode() for row in rows]
    if section.opens is not None and rows:
        key = await read_key(connection, vault, participant_id)
        items = [_opened(section.opens, item, row["sealed"], key) for item, row in zip(items, rows, strict=True)]
    return items, rows[-1]["place"] if len(rows) == PAGE else None


def _opened(opens: Opens, item: bytes, sealed: bytes | None, key: DataKey | None) -> bytes:
    """The item with what was sealed beside it; null where that was erased."""
    told: dict[str, Any] = orjson.loads(item)
    if opens == "words":
        which = UUID(told.get("dispute_id") or told["review_id"]), int(told["number"])
        told["words"] = open_words(key, *which, sealed) if key and sealed else None
        return orjson.dumps(told)
    named = UUID(told["redemption_id" if opens == "terms" else "activity_id"])
    how = {"evidence": open_evidence, "facts": open_facts, "terms": open_terms}[opens]
    opened = how(key, named, sealed) if key and sealed else None
    told |= {"salt": opened and opened.salt.hex(), "document": opened and orjson.loads(opened.document)}
    if opens == "evidence":
        told["refusal"] = orjson.loads(opened.refusal) if opened and opened.refusal else None
    return orjson.dumps(told)


def person_export_schema() -> Mapping[str, Any]:
    """The JSON Schema (2020-12) of the document: every section in its order, and the members of its items."""
    identity = {"type": "object", "title": f"{_IDENTITY[1]} · {_IDENTITY[2]}"}
    shown = [_section_schema(_IDENTITY[0], identity)]
    for section in SECTIONS:
        members = dict.fromkeys(section.columns, True)
        item = {
            "type": "object",
            "title": f"{section.zh} · {section.en}",
            "properties": members,
            "required": list(members),
            "additionalProperties": False,
        }
        shown.append(_section_schema(section.name, item))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "个人信息副本 · Everything that is kept of a person",
        "type": "object",
        "required": ["schema", "participant_id", "made_at", "sections"],
        "additionalProperties": False,
        "properties": {
            "schema": {"const": SCHEMA_ID},
            "participant_id": {"type": "string", "format": "uuid"},
            "made_at": {"type": "string", "format": "date-time"},
            "sections": {"type": "array", "prefixItems": shown, "minItems": len(shown), "items": False},
        },
    }


def _section_schema(name: str, item: Mapping[str, Any]) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1}
    label = {"type": "object", "properties": {"zh": text, "en": text}, "required": ["zh", "en"]}
    return {
        "type": "object",
        "required": ["name", "label", "items"],
        "additionalProperties": False,
        "properties": {"name": {"const": name}, "label": label, "items": {"type": "array", "items": item}},
    }
