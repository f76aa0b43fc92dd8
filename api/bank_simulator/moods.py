"""The moods of a bank: how it behaves on the line. In each of them it is owed the same answers."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mood:
    """What a bank does beside its business.

    pause_s    up to so many seconds pass before each call
    repeats    asks each call about money again under its Idempotency-Key: the answer must be the same
    reorders   takes its redemptions in any order, and captures before it accepted
    drops      hangs up before the answer, and asks again
    conflicts  asks for something else under a used key, and captures twice and voids at once
    """

    name: str
    zh: str
    en: str
    pause_s: float = 0.0
    repeats: bool = False
    reorders: bool = False
    drops: bool = False
    conflicts: bool = False


MOODS: Mapping[str, Mood] = {
    mood.name: mood
    for mood in (
        Mood("honest", "守序", "one call after the other, each once"),
        Mood("slow", "迟缓", "pauses before each call", pause_s=1.0),
        Mood("repeating", "重复", "sends each call again under its key", repeats=True),
        Mood("reordering", "乱序", "takes things in any order, and some too early", reorders=True),
        Mood("dropping", "断线", "loses answers and asks again", drops=True),
        Mood("conflicting", "冲突", "asks for other things under a used key, and for two at once", conflicts=True),
    )
}
