"""What a report names besides its figures, and the one form in which two of them are compared.

An order number is typed with and without hyphens, in small letters and in full-width ones: what decides is its letters
and digits alone. The form can never change, because tags are made of it: `ABC-1`, `abc 1` and `ＡＢＣ１` are one order.
"""

import re
import unicodedata

from service.quantification.model import REFERENCES

__all__ = ["REFERENCES", "ReferenceInvalid", "canonical_reference"]

LONGEST = 200
_OPERATOR = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?")


class ReferenceInvalid(ValueError):
    """A reference that names nothing that could be found again. `expected` says what would."""

    def __init__(self, expected: str) -> None:
        super().__init__(f"a reference is {expected}")
        self.expected = expected


def canonical_reference(name: str, text: str) -> str:
    """The one form of a reference.

    operator   a code of a-z, 0-9, dots and hyphens, such as `hellobike.com`: it is compared as it stands
    others     NFKC, upper case, letters and digits alone; `site` is a unified social credit code, checked before

    Raises ReferenceInvalid for an operator that is no code, for what has no letter or digit, and for text with
    characters that nobody sees.
    """
    if name == "operator":
        if not _OPERATOR.fullmatch(text):
            raise ReferenceInvalid("a-z 0-9 . -")
        return text
    if text.isascii() and text.isalnum():
        return text.upper()
    plain = text.isascii()  # then NFKC changes nothing, and of the characters nobody sees there are control codes only
    unseen = not text.isprintable() if plain else any(unicodedata.category(each).startswith("C") for each in text)
    if len(text) > LONGEST or unseen:
        raise ReferenceInvalid("visible text")
    kept = "".join(filter(str.isalnum, text.upper() if plain else unicodedata.normalize("NFKC", text).upper()))
    if not kept:
        raise ReferenceInvalid("letters or digits")
    return kept if plain else unicodedata.normalize("NFKC", kept)
