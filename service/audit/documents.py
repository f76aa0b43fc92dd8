"""The documents of redemptions that a bundle carries, read once in each process: offers, terms of pools, statements."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from ledger.bundle import Bundle
from ledger.verify.jwk import public_of, thumbprint
from service.products.model import Offer, Product
from service.products.parsing import ListingInvalid, parse_listing
from service.redemption.terms import PoolTerms
from service.settlement.statement import DayStatement, read_statement, statement_document

FOLDER, SUFFIX = "documents/", ".json"
_OF_POOL = "shortage"  # what only the terms of a pool say
_OF_STATEMENT = "totals"


@dataclass(frozen=True, slots=True)
class Documents:
    """By digest, those whose bytes are what their name says; `unreadable` says why another is not used.

    keys   by bank: the thumbprints of the keys that keys.json lists
    """

    offers: Mapping[str, Offer] = field(default_factory=dict)
    products: Mapping[str, Product] = field(default_factory=dict)
    pools: Mapping[str, PoolTerms] = field(default_factory=dict)
    statements: Mapping[str, DayStatement] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def weighs(self) -> bool:
        """Whether any offer weighs the grams that somebody saved."""
        return any(offer.weighs_grams for offer in self.offers.values())


def named_documents(bundle: Bundle) -> tuple[str, ...]:
    """The digests of the documents that a bundle lists."""
    return tuple(path.removeprefix(FOLDER).removesuffix(SUFFIX) for path in bundle.under(FOLDER))


@lru_cache(maxsize=1)
def read_documents(directory: Path, digests: tuple[str, ...], run: str) -> Documents:
    """Read what a bundle carries, once in each process of a run."""
    found = Documents({}, {}, {}, {}, {}, _keys(directory))
    for digest in digests:
        try:
            _take(found, digest, (directory / f"{FOLDER}{digest}{SUFFIX}").read_bytes())
        except OSError as error:
            _put(found.unreadable, digest, str(error.strerror))
        except (ListingInvalid, ValueError, KeyError, TypeError, AttributeError) as invalid:
            _put(found.unreadable, digest, str(invalid) or type(invalid).__name__)
    return found


def _take(found: Documents, digest: str, content: bytes) -> None:
    if sha256(content).hexdigest() != digest:
        raise ValueError("other bytes than its digest says")
    fields = orjson.loads(content)
    if _OF_POOL in fields:
        numbers = {name: _number(fields[name]) for name in fields if name.startswith(("points_per", "rate_"))}
        terms = PoolTerms(**(fields | numbers))
        if terms.document != content:
            raise ValueError("the bytes are not the canonical form of the terms")
        _put(found.pools, digest, terms)
    elif _OF_STATEMENT in fields:
        statement = read_statement(content)
        if statement_document(statement) != content:
            raise ValueError("its totals are not those of its entries, or its form is another")
        _put(found.statements, digest, statement)
    else:
        listing = parse_listing(content)
        if listing.digest != digest:
            raise ValueError("the bytes are not the canonical form of the document")
        _put(found.offers if isinstance(listing, Offer) else found.products, digest, listing)


def _put(into: Mapping[str, Any], digest: str, value: object) -> None:
    assert isinstance(into, dict)  # it is being made
    into[digest] = value


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)


def _keys(directory: Path) -> Mapping[str, frozenset[str]]:
    keys: dict[str, set[str]] = {}
    try:
        for one in orjson.loads((directory / "keys.json").read_bytes()).get("banks", ()):
            keys.setdefault(one["bank"], set()).add(thumbprint(*public_of(one["jwk"])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # the verification says so
        return {}
    return {bank: frozenset(marks) for bank, marks in keys.items()}
