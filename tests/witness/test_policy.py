"""Witness policies: read strictly, and a quorum is what the groups say."""

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import NoteInvalid, PolicyInvalid
from ledger.notes import VerifierKey, parse_note, verify_note
from ledger.policy import Group, Policy, Witness, parse_policy, read_policy
from tests.witness.worlds import history, signer_of, witness_key

LOG = signer_of().verifier
KEYS = {name: witness_key(f"{name}.example/witness", seed) for seed, name in enumerate("abcdef", start=10)}


def vkey(name: str) -> VerifierKey:
    return KEYS[name].verifier


WITNESSES = "".join(f"witness {name} {vkey(name)}\n" for name in "abcdef")
EXAMPLE = f"""\
# two groups, as in the text of the format
log {LOG} https://log.example.org/log/
\t
witness X1 {vkey("a")} https://a.example/submit/
 witness\tX2  {vkey("b")}\t
witness X3 {vkey("c")}
group X-witnesses 2 X1 X2 X3

witness 乙一 {vkey("d")} http://127.0.0.1:8090
witness 乙二 {vkey("e")}
group Y any 乙一 乙二
group X-and-Y all X-witnesses Y
quorum X-and-Y
"""


def test_a_policy_is_read_as_it_is_written() -> None:
    policy = parse_policy(EXAMPLE)
    assert [(log.key, log.url) for log in policy.logs] == [(LOG, "https://log.example.org/log")]
    assert policy.witnesses[0] == Witness("X1", vkey("a"), "https://a.example/submit")
    assert [(witness.name, witness.url) for witness in policy.witnesses[1:]] == [
        ("X2", None), ("X3", None), ("乙一", "http://127.0.0.1:8090"), ("乙二", None),
    ]  # fmt: skip
    assert policy.groups == (
        Group("X-witnesses", 2, ("X1", "X2", "X3")),
        Group("Y", 1, ("乙一", "乙二")),
        Group("X-and-Y", 2, ("X-witnesses", "Y")),
    )
    assert policy.quorum == "X-and-Y"
    assert policy.keys == (LOG, *map(vkey, "abcde"))


def test_a_quorum_is_what_the_groups_say() -> None:
    policy = parse_policy(EXAMPLE)
    for saw in product((False, True), repeat=5):
        keys = [vkey(name) for name, did in zip("abcde", saw, strict=True) if did]
        assert policy.met_by(keys) == (sum(saw[:3]) >= 2 and any(saw[3:]))
    assert parse_policy("quorum none\n") == Policy((), (), (), None)
    assert parse_policy("quorum none\n").met_by([])
    alone = parse_policy(f"witness w {vkey('a')}\nquorum w\n")
    assert alone.met_by([vkey("b"), vkey("a")])
    assert not alone.met_by([vkey("b")])
    assert not alone.met_by([signer_of(vkey("a").name, seed=10).verifier])  # the same secret, as a log's key


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", None, "has no quorum"),
        ("# nothing\n", None, "add a line `quorum <name>`"),
        ("quorum none", 1, "does not end in a line feed"),
        ("quorum none\nquorum none\n", 2, "a second quorum"),
        ("quorum X\n", 1, "X is no witness or group"),
        ("quorum\n", 1, "expected `log <verifier key>"),
        ("quorum a b\n", 1, "expected"),
        ("Quorum none\n", 1, "expected"),
        ("quorum none\r\n", 1, "without returns"),
        ("quorum none # really\n", 1, "expected"),
        ("log\n", 1, "expected"),
        ("log x\n", 1, "name+id+key"),
        (f"log {LOG} log.example.org\n", 1, "from http:// or https:// on"),
        (f"log {LOG} https://a b\n", 1, "at most one address"),
        (f"log {LOG}\nlog {LOG}\n", 2, "listed twice"),
        (f"log {vkey('a')}\n", 1, "witness's key (type 4)"),
        (f"witness w {LOG}\n", 1, "ask the witness for its own"),
        (f"witness {vkey('a')}\n", 1, "expected"),
        (f"witness none {vkey('a')}\n", 1, "choose another name"),
        (f"witness w {vkey('a')}\nwitness w {vkey('b')}\n", 2, "w is defined above"),
        (f"witness w {vkey('a')}\nwitness v {vkey('a')}\n", 2, "would count twice"),
        (f"witness w {vkey('a')} ftp://a\n", 1, "from http://"),
        (f"{WITNESSES}group g any\n", 7, "no members"),
        (f"{WITNESSES}group g any a g\n", 7, "g is no witness or group"),
        (f"{WITNESSES}group g any none\n", 7, "none is no witness"),
        (f"{WITNESSES}group g any a a\n", 7, "a is a member already"),
        (f"{WITNESSES}group g any a\ngroup h all a b\n", 8, "a is a member already"),
        (f"{WITNESSES}group a any b\n", 7, "a is defined above"),
        (f"{WITNESSES}group none any b\n", 7, "choose another name"),
        *((f"{WITNESSES}group g {k} a b\n", 7, "1 to 2 of its") for k in ("0", "3", "01", "+1", "-1", "½", "two")),
    ],
)  # fmt: skip
def test_what_is_no_policy_is_refused_with_line_and_remedy(text: str, line: int | None, told: str) -> None:
    with pytest.raises(PolicyInvalid) as error:
        parse_policy(text)
    assert told in str(error.value)
    assert (f"line {line} of the witness policy" in str(error.value)) == (line is not None)


def test_both_ends_of_a_threshold_are_good() -> None:
    for k, needed in (("1", 1), ("2", 2), ("any", 1), ("all", 2)):
        assert parse_policy(f"{WITNESSES}group g {k} a b\nquorum g\n").groups == (Group("g", needed, ("a", "b")),)


@given(st.text(alphabet="abw 1\t\n#log quorum none group all any witness+"))
def test_no_text_breaks_the_parser(text: str) -> None:
    try:
        policy = parse_policy(text)
    except PolicyInvalid:
        return
    assert policy.quorum is None  # there is no key in it


def test_a_policy_file_is_text(tmp_path: Path) -> None:
    path = tmp_path / "policy"
    with pytest.raises(PolicyInvalid, match="cannot be read"):
        read_policy(path)
    path.write_bytes(b"quorum none\xff\n")
    with pytest.raises(PolicyInvalid, match="UTF-8"):
        read_policy(path)
    path.write_bytes(b"quorum none\r\n")  # no line ends are mended on the way
    with pytest.raises(PolicyInvalid, match="without returns"):
        read_policy(path)
    path.write_text(EXAMPLE, "utf-8")
    assert read_policy(path) == parse_policy(EXAMPLE)


def test_a_checkpoint_is_checked_for_its_log_and_its_quorum() -> None:
    log = history()
    text = log.text(7)

    def checked(policy: Policy, *names: str, signer: str = log.signer.sign(text)) -> None:
        note = f"{text}\n{signer}{''.join(KEYS[name].cosign(text, 1_790_000_000) for name in names)}"
        policy.check(verify_note(parse_note(note), [LOG, *policy.keys]))

    policy = parse_policy(EXAMPLE)
    checked(policy, "a", "b", "d")
    checked(policy, *"fedcba")
    with pytest.raises(NoteInvalid, match=r"asks for X-and-Y; cosigned by X1, X2, not by X3, 乙一, 乙二"):
        checked(policy, "a", "b")
    with pytest.raises(NoteInvalid, match="cosigned by nobody"):
        checked(policy)
    other = parse_policy(f"log {signer_of('other').verifier}\nwitness a {vkey('a')}\nquorum none\n")
    with pytest.raises(NoteInvalid, match=r"no log of the witness policy \(other\) signed"):
        checked(other, "a")
    checked(parse_policy("quorum none\n"))
