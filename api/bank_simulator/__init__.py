"""A bank for rehearsals: what a partner bank's own program would be. It knows the platform by its public HTTP API
alone, keeps its own book, and compares the two in the end.

`tanpuhui bank simulate` runs it as a process of its own, and so does the demonstration.
"""

from api.bank_simulator.book import Book, Entry
from api.bank_simulator.calls import Bank, NoAnswer
from api.bank_simulator.moods import MOODS, Mood
from api.bank_simulator.playing import Finding, Play
from api.bank_simulator.reconciling import Reconciled, reconcile
from api.bank_simulator.running import play_bank

__all__ = [
    "MOODS",
    "Bank",
    "Book",
    "Entry",
    "Finding",
    "Mood",
    "NoAnswer",
    "Play",
    "Reconciled",
    "play_bank",
    "reconcile",
]
