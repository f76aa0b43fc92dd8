"""Reported activities: what they are worth, the rules in use, and their tables."""
