"""Problems (RFC 9457): one table of types, pure rendering in Chinese and English, and their HTTP answers."""

from api.problems.faults import Fault, faults_of, pointer
from api.problems.http import (
    MEDIA_TYPE,
    install_problem_handlers,
    language_of,
    localized,
    openapi_problems,
    problem_response,
)
from api.problems.rendering import (
    DEFAULT_BASE,
    Problem,
    ProblemPage,
    clean,
    content_language,
    describe_checks,
    describe_problem,
    describe_problems,
    negotiate,
    render,
)
from api.problems.table import ORDER_OF_CHECKS, PROBLEM_TYPES, Language, ProblemType, Text
from api.problems.words import WORDS, word

__all__ = [
    "DEFAULT_BASE",
    "MEDIA_TYPE",
    "ORDER_OF_CHECKS",
    "PROBLEM_TYPES",
    "WORDS",
    "Fault",
    "Language",
    "Problem",
    "ProblemPage",
    "ProblemType",
    "Text",
    "clean",
    "content_language",
    "describe_checks",
    "describe_problem",
    "describe_problems",
    "faults_of",
    "install_problem_handlers",
    "language_of",
    "localized",
    "negotiate",
    "openapi_problems",
    "pointer",
    "problem_response",
    "render",
    "word",
]
