"""Linking 关联: a person lets a source or a bank know them, each by an id of its own, for as long as they like."""
