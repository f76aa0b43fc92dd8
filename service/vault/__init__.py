"""The vault 密钥库: who somebody is, and the key that everything told of them is sealed under.

Each participant has a data key of 256 bits, made when they are enrolled. What was reported of them, the salts that the
log's commitments rest on, the terms of what they redeemed, what they wrote and their identity are sealed under it with
AES-256-GCM. The data key itself is stored wrapped under a key-encryption key, which lies in a file outside the
database (master.py). Whoever destroys the data key has erased all of that at once, in every backup of the database
that is opened under a key-encryption key made later (rotation.py).

The vault's own tables are in a schema apart. What other rooms use of it:

    make_keys(tx, vault, participant_ids)           in the transaction that enrols them
    destroy_key(tx, participant_id)                 whether there was one; no copy is left but in old backups
    read_keys(tx, vault, participant_ids)           data keys of those who have one
    keep_person(tx, vault, participant_id, person_tag, identity, key_version=…)
    find_person(tx, person_tag)                     whom a tag stands for
    read_identity(tx, vault, participant_id, purpose=…), write_identity(tx, vault, participant_id, identity)
    forget_identity(tx, participant_id)
    seal_evidence(key, …), open_evidence(key, …)    and the same of terms, facts and words (evidence.py)

`vault` is the process's Vault (vault.py), `platform.vault` in the API. `key` is a DataKey. Statements that read what is
sealed read the owner's wrapped key beside it (`KEY_JOIN`), so that a key that was destroyed a moment ago opens nothing.
"""

from service.vault.evidence import (
    OpenedEvidence,
    key_beside,
    open_decision,
    open_evidence,
    open_facts,
    open_terms,
    open_words,
    opened_beside,
    seal_decision,
    seal_evidence,
    seal_facts,
    seal_terms,
    seal_words,
)
from service.vault.keys import destroy_key, make_key, make_keys, read_key, read_keys
from service.vault.master import VaultError, create_master_file, load_master_file
from service.vault.persons import (
    Person,
    find_person,
    forget_identity,
    keep_person,
    mark_person,
    read_identity,
    write_identity,
)
from service.vault.vault import DataKey, Vault

__all__ = [
    "DataKey",
    "OpenedEvidence",
    "Person",
    "Vault",
    "VaultError",
    "create_master_file",
    "destroy_key",
    "find_person",
    "forget_identity",
    "keep_person",
    "key_beside",
    "load_master_file",
    "make_key",
    "make_keys",
    "mark_person",
    "open_decision",
    "open_evidence",
    "open_facts",
    "open_terms",
    "open_words",
    "opened_beside",
    "read_identity",
    "read_key",
    "read_keys",
    "seal_decision",
    "seal_evidence",
    "seal_facts",
    "seal_terms",
    "seal_words",
    "write_identity",
]
