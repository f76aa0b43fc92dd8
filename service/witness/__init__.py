"""Witnesses: asking them to cosign our checkpoints, and a small one for partners to run (C2SP tlog-witness)."""
