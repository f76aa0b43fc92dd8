"""Why a credit's points wait, as its explanation says it."""

from typing import Any

from api.problems import Language
from service.signals.reviews import Waiting


def waiting_view(waiting: Waiting, language: Language) -> dict[str, Any]:
    """The open review that a credit is under: until when, and in words why."""
    return {
        "review_id": str(waiting.review_id),
        "due_at": waiting.due_at.isoformat().replace("+00:00", "Z"),
        "told": [getattr(each, language) for each in waiting.told],
    }
