"""A witness's own key: a file in its folder, mode 0600, in the form that Go's sumdb/note writes."""

import secrets
from pathlib import Path

from ledger.errors import NoteInvalid
from ledger.notes import COSIGNATURE, Signer, generate_signer
from service.keyring import create_private_file, readable_by_others
from service.log.keys import decode_signing_key, encode_signing_key
from service.witness.memory import WitnessUnusable

KEY = "witness.key"
_SEED_BYTES = 32


def create_witness_key(directory: Path, name: str) -> Signer:
    """Make a witness's key under its name. Raises NoteInvalid for a name that no key can have, WitnessUnusable where
    there is a key already: who trusts that one would not know the new one."""
    signer = generate_signer(name, COSIGNATURE, secrets.token_bytes(_SEED_BYTES))
    if not create_private_file(directory / KEY, f"{encode_signing_key(signer)}\n".encode()):
        raise WitnessUnusable(
            f"{directory / KEY} is there already, the key of {load_witness_key(directory).verifier}: "
            "use it, or name another folder for another witness"
        )
    return load_witness_key(directory)


def load_witness_key(directory: Path) -> Signer:
    """Read it. Raises WitnessUnusable."""
    path = directory / KEY
    try:
        text = path.read_text("utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError):
        raise WitnessUnusable(f"no key at {path}: make one with `tanpuhui witness key new NAME --dir DIR`") from None
    if readable_by_others(path):
        raise WitnessUnusable(f"the witness's key {path} may be read by every user of this machine: chmod 600 it")
    try:
        return decode_signing_key(text, COSIGNATURE)
    except NoteInvalid as error:
        raise WitnessUnusable(f"{path} is not a witness's key: {error}") from None
