"""The canonical form of a transfer's leaf as one regular expression for each kind, which takes it apart as well.

`ledger.leaf_reading` is the truth about leaves and names the field that is wrong; at a hundred microseconds a leaf it
is too slow for a log. These expressions are made of the same tables and accept the same bytes, dates with their leap
years and numbers of 64 bits included; a test holds both to one verdict. What they do not accept, and the few leaves
that tell of no transfer, go to `read_leaf`.
"""

import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from itertools import pairwise
from typing import Any

from ledger.errors import LeafInvalid
from ledger.journal import (
    AMOUNT_MAX,
    CREDIT_CLASSES,
    KINDS,
    PARTICIPANT_ACCOUNTS,
    PARTICIPANT_KINDS,
    SYSTEM_ACCOUNTS,
    Line,
)
from ledger.leaf_reading import read_leaf
from ledger.leaves import VERSION


def _any(names: tuple[str, ...]) -> str:
    return f"(?:{'|'.join(names)})"


def _up_to(most: int) -> str:
    """Decimal digits without a leading zero, from 1 to `most`: any shorter number, or one of as many digits that first
    falls below it in some place."""
    digits = str(most)
    ways = [f"[1-9][0-9]{{0,{len(digits) - 2}}}(?![0-9])"]
    for place, digit in enumerate(digits):
        lowest = 1 if place == 0 else 0
        if int(digit) > lowest:
            ways.append(f"{digits[:place]}[{lowest}-{int(digit) - 1}][0-9]{{{len(digits) - place - 1}}}")
    return f"(?:{'|'.join([*ways, digits])})"


_MONTH_DAY = (
    "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DAY = f"(?!0000)(?:[0-9]{{4}}-{_MONTH_DAY}|{_LEAP_YEAR}-02-29)"
_MOMENT = f"(?!0){_DAY}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z"  # a year of four digits, as it is written again
# Two ranges are compared one after the other, and which of them a random digit falls into no processor can guess; three
# become a table, which is a third faster. The third has the one character that is_plain() keeps out.
_H = "[0-9a-f\x7f]"
_HEX32, _HEX16 = f"{_H}{{64}}", f"{_H}{{32}}"
_UUID = f"{_H}{{8}}-{_H}{{4}}-{_H}{{4}}-{_H}{{4}}-{_H}{{12}}"
_UUID7 = f"{_H}{{8}}-{_H}{{4}}-7{_H}{{3}}-[89ab]{_H}{{3}}-{_H}{{12}}"
_CODE = "[a-z0-9][a-z0-9._-]{0,63}"
_URI = r"[A-Za-z][A-Za-z0-9+.-]*:[!#-\[\]-~]{1,500}"
_NUMBER = _up_to(AMOUNT_MAX)
_YEAR = "[12][0-9]{3}"
_CLAIM = f'"[1-9][0-9]{{0,4}}:{_HEX32}"'
_ACCOUNT = _any(PARTICIPANT_ACCOUNTS + SYSTEM_ACCOUNTS)
_CLASS = _any(CREDIT_CLASSES)
_SIDES = f'"from":"{_ACCOUNT}","to":"{_ACCOUNT}"'
_LINE = (
    f'{{"amount":"{_NUMBER}","asset":"'
    f'(?:points","expires":(?:null|"{_DAY}"),{_SIDES}|co2e_mg","class":"{_CLASS}",{_SIDES},"vintage":"{_YEAR}")}}'
)
_LINES = f"{_LINE}(?:,{_LINE})*"
# What nearly every credit is: grams and points, available at once.
_PLAIN = (
    f'{{"amount":"({_NUMBER})","asset":"co2e_mg","class":"({_CLASS})","from":"issuance","to":"available",'
    f'"vintage":"({_YEAR})"}},'
    f'{{"amount":"({_NUMBER})","asset":"points","expires":"({_DAY})","from":"issuance","to":"available"}}\\]'
)
_KIND = f'"participant_kind":"({_any(PARTICIPANT_KINDS)})"'
_PARTICIPANT = f'"participant":"({_UUID})",{_KIND}'
_PLACE = f'"programme":"({_CODE})","region":"({_CODE})"'
_END = f'"transfer":"({_UUID7})","v":"{VERSION}"}}'


def _or_null(form: str, *, taken: bool = False) -> str:
    return f'(?:null|"({form})")' if taken else f'(?:null|"{form}")'


_ANY64 = '[^"]{64}'
_STANDING = f'{_KIND},"points_rule":{_or_null(_HEX32, taken=True)},{_PLACE}'


def _together(form: str) -> str:
    """The same without groups of its own."""
    return re.sub(r"(?<!\\)\((?!\?)", "(?:", form)


CREDIT = re.compile(
    f'{{"activity":"{_UUID7}","at":"({_MOMENT})","claims":\\[((?:{_CLAIM}(?:,{_CLAIM})*)?)\\],"counter":"({_NUMBER})",'
    f'"day":"({_DAY})","evidence":"{_HEX32}","grade":"([ABC])","kind":"credit",'
    f'"lines":\\[(?:{_PLAIN}|({_LINES})\\]),'
    f'"methodology":"({_HEX32})","nonce":"{_HEX16}","participant":"({_UUID})",({_together(_STANDING)}),'
    f'"replaces":{_or_null(_UUID7, taken=True)},"signature":{_or_null(_HEX32)},"source":"({_URI})",{_END}'
)
_LOOSE = f'"participant_kind":"[^"]*","points_rule":{_or_null(_ANY64)},"programme":"[^"]*","region":"[^"]*"'
ALIKE = re.compile(
    CREDIT.pattern.replace(_together(_STANDING), _LOOSE)
    .replace(f'"methodology":"({_HEX32})"', f'"methodology":"({_ANY64})"')
    .replace(f'"source":"({_URI})"', '"source":"([^"]*)"')
    .encode("ascii")
)
"""The same groups of bytes, sooner: in methodology, source and what stands between participant and `replaces` it takes
anything without a quotation mark. So whoever uses it must have seen these very texts in a leaf that CREDIT took; as no
value holds a quotation mark, each stands on its own, and the leaf is one that CREDIT takes."""
STANDING = re.compile(_STANDING)
"""What lies between a credit's participant and the next thing of its own: the same in thousands of entries, so that it
is taken apart once. The participant's kind, points rule, programme and region."""
REVERSAL = re.compile(
    f'{{"at":"({_MOMENT})","authority":"({_CODE})","counter":"({_NUMBER})","day":"({_DAY})",'
    f'"decision":{_or_null(_HEX32)},"kind":"reversal","lines":\\[({_LINES})\\],"nonce":"{_HEX16}",{_PARTICIPANT},'
    f'"programme":"({_CODE})","reason":"({_CODE})","region":"({_CODE})","reverses":"({_UUID7})",'
    f'"signature":{_or_null(_HEX32)},{_END}'
)
LAPSE = re.compile(
    f'{{"at":"({_MOMENT})","counter":"({_NUMBER})","day":"({_DAY})","kind":"lapse","lines":\\[({_LINES})\\],'
    f'"nonce":"{_HEX16}",{_PARTICIPANT},{_PLACE},{_END}'
)
MATURITY = re.compile(
    f'{{"at":"({_MOMENT})","authority":"({_CODE})","awaited":"{_CODE}","counter":"({_NUMBER})","day":"({_DAY})",'
    f'"facts":{_or_null(_HEX32)},"kind":"maturity","lines":\\[({_LINES})\\],"matures":"({_UUID7})",'
    f'"nonce":"{_HEX16}",{_PARTICIPANT},"points_rule":{_or_null(_HEX32, taken=True)},{_PLACE},'
    f'"signature":{_or_null(_HEX32)},"source":{_or_null(_URI)},{_END}'
)
_COUNT = f"(?:0|{_NUMBER})"
_STEP_SIGNED = f'"signature":{_or_null(_HEX32, taken=True)}'
_STEP_END = f'"transfer":"({_UUID7})","units":"({_NUMBER})","v":"{VERSION}","value":"({_COUNT})"}}'
HOLD = re.compile(
    f'{{"at":"({_MOMENT})","bank":"({_URI})","counter":"({_NUMBER})","day":"({_DAY})","expires_at":"({_MOMENT})",'
    f'"kind":"hold","lines":\\[({_LINES})\\],"nonce":"{_HEX16}","offer":"({_HEX32})",{_PARTICIPANT},'
    f'"pool":"({_CODE})",{_PLACE},{_STEP_SIGNED},"terms":"{_HEX32}",{_STEP_END}'
)
CAPTURE = re.compile(
    f'{{"at":"({_MOMENT})","bank":"({_URI})","counter":"({_NUMBER})","day":"({_DAY})","hold":"({_UUID7})",'
    f'"kind":"capture","lines":\\[({_LINES})\\],"nonce":"{_HEX16}",{_PARTICIPANT},"pool":"({_CODE})",{_PLACE},'
    f'"signature":"({_HEX32})",{_STEP_END}'
)
RELEASE = re.compile(
    f'{{"at":"({_MOMENT})","authority":"({_CODE})","bank":"({_URI})","counter":"({_NUMBER})","day":"({_DAY})",'
    f'"decision":{_or_null(_HEX32)},"hold":"({_UUID7})","kind":"release","lines":\\[({_LINES})\\],'
    f'"nonce":"{_HEX16}",{_PARTICIPANT},'
    f'"pool":"({_CODE})","programme":"({_CODE})","reason":"({_CODE})","region":"({_CODE})",{_STEP_SIGNED},{_STEP_END}'
)
REFUND = re.compile(
    f'{{"at":"({_MOMENT})","authority":"({_CODE})","bank":"({_URI})","counter":"({_NUMBER})","day":"({_DAY})",'
    f'"decision":{_or_null(_HEX32)},"kind":"refund","lines":\\[({_LINES})\\],"nonce":"{_HEX16}",{_PARTICIPANT},'
    f'"pool":"({_CODE})",'
    f'"programme":"({_CODE})","reason":"({_CODE})","region":"({_CODE})","reverses":"({_UUID7})",{_STEP_SIGNED},'
    f"{_STEP_END}"
)
FORMS = {
    "reversal": REVERSAL,
    "lapse": LAPSE,
    "maturity": MATURITY,
    "hold": HOLD,
    "capture": CAPTURE,
    "release": RELEASE,
    "refund": REFUND,
}
"""The expression of each kind of transfer but a credit."""


def _signed_by_its_bank(groups: tuple[str | None, ...]) -> bool:
    """Whether a release or a refund has a signature where, and only where, the bank is the authority."""
    return (groups[1] == "bank") == (groups[13] is not None)


_AGREE: dict[str, Callable[[tuple[str | None, ...]], bool]] = {
    "hold": lambda groups: str(groups[0]) < str(groups[4]),  # moments of one form are in order as texts, too
    "release": _signed_by_its_bank,
    "refund": _signed_by_its_bank,
}
"""By kind: what two groups of its expression say must fit together, as `read_leaf` asks."""


def parts_of(text: str, kind: str) -> tuple[str, ...] | None:
    """What the expression of a kind takes out of a leaf; None where it is no leaf of it, or the kind has none.

    text  of which is_plain() holds
    """
    form = FORMS.get(kind)
    match = None if form is None else form.fullmatch(text)
    if match is None or (kind in _AGREE and not _AGREE[kind](match.groups())):
        return None
    return match.groups()


_EACH_LINE = re.compile(
    r'"amount":"([0-9]+)","asset":"(\w+)"(?:,"class":"(\w+)")?(?:,"expires":(?:null|"([0-9-]+)"))?'
    r',"from":"(\w+)","to":"(\w+)"(?:,"vintage":"([0-9]+)")?'
)


def lines_of(text: str) -> tuple[Line, ...]:
    """The lines between the brackets of a canonical leaf."""
    return tuple(
        Line(
            giver,
            taker,
            asset,
            int(amount),
            credit_class or None,
            int(vintage) if vintage else None,
            as_date(expires) if expires else None,
        )
        for amount, asset, credit_class, expires, giver, taker, vintage in _EACH_LINE.findall(text)
    )


@lru_cache(maxsize=4_096)
def as_date(day: str) -> date:
    """A day of a canonical leaf."""
    return date.fromisoformat(day)


def shown(line: Line) -> str:
    """A line for people."""
    rest = [str(part) for part in (line.credit_class, line.vintage, line.expires_on) if part is not None]
    return " ".join([f"{line.from_account} -> {line.to_account}", str(line.amount), line.asset, *rest])


def is_plain(text: str) -> bool:
    """Whether the expressions may be asked at all: they are exact for ASCII without the character 0x7f."""
    return text.isascii() and "\x7f" not in text


def claims_in_order(block: str) -> bool:
    """Whether the claims of a leaf, as they stand between its brackets, are sorted and each named once."""
    claims = block.split(",")
    return all(earlier < later for earlier, later in pairwise(claims))


def fits(text: str) -> bool:
    """Whether a leaf is the canonical form of a transfer, by the expressions alone."""
    if not is_plain(text):
        return False
    credit = CREDIT.fullmatch(text)
    if credit is not None:
        return claims_in_order(credit[2])
    return any(parts_of(text, kind) is not None for kind in FORMS)


def fault_of(entry: bytes) -> str | dict[str, Any]:
    """What is wrong with an entry that none of the expressions takes, or its fields: it is of another kind."""
    try:
        fields = read_leaf(entry)
    except LeafInvalid as invalid:
        return str(invalid)
    return f"a {fields['kind']} that its expression refuses" if fields["kind"] in KINDS else fields
