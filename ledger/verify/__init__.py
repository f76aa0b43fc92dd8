"""Verifying an auditor's bundle with nothing but Python and `cryptography`: signatures, tree, form, and the ledger's
rules for every entry. `ledger.verify.run.verify` does it; docs/audit.md lists the codes of what it finds."""
