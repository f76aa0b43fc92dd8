"""Decisions: participants, activities, rules, posting. No HTTP here."""
