"""What is said to people about a feed or its file, and the errors that say it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints


class Part(BaseModel):
    """A value of a feed document: strict, frozen, without a field that nobody knows."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Bilingual(Part):
    """A text for people, in Simplified Chinese and English."""

    zh: Annotated[str, StringConstraints(min_length=1)]
    en: Annotated[str, StringConstraints(min_length=1)]


class FeedError(Exception):
    """A feed or its file cannot be used; `text` says what was expected, what came and what to do."""

    def __init__(self, *, zh: str, en: str) -> None:
        super().__init__(f"{en}\n{zh}")
        self.text = Bilingual(zh=zh, en=en)


class FeedDocumentError(FeedError):
    """The YAML document does not describe a feed."""


class FeedFileError(FeedError):
    """The data file as a whole cannot be read; a single faulty row is a BadRow instead."""
