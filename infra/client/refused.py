"""Problems, as what they are to who asked: exceptions."""

from typing import Any

import msgspec

from shared.kernel import codec
from shared.kernel.codec import Format
from shared.kernel.problems import FieldError, Unreadable


class Problem(msgspec.Struct, frozen=True):
    """A problem document (RFC 9457). `retry_after`: after how many seconds it may be asked again."""

    status: int
    code: str
    detail: str
    title: str = ""
    instance: str = ""
    errors: list[FieldError] = []
    retry_after: float | None = None


class Refused(Exception):
    """An answer that is a problem: its `status` and `code`, and every fault there is in `errors`."""

    def __init__(self, asked: str, problem: Problem):
        faults = "".join(f" {one.field}: {one.detail}" for one in problem.errors)
        super().__init__(f"{asked}: {problem.status} {problem.code}: {problem.detail}{faults}")
        self.problem = problem
        self.status = problem.status
        self.code = problem.code
        self.errors = problem.errors
        self.retry_after = problem.retry_after


def problem_of(document: Any, status: int, retry_after: str = "") -> Problem:
    """The problem that a decoded document is; one made of the status, if it is none. `retry_after` is the field's."""
    try:
        problem = msgspec.convert(document, Problem)
    except msgspec.ValidationError:
        problem = Problem(status, "no_problem_document", str(document)[:200])
    return msgspec.structs.replace(problem, retry_after=float(retry_after)) if retry_after.isdigit() else problem


def problem_in(body: bytes, status: int, retry_after: str = "", *, format: Format = "json") -> Problem:
    """The problem in the body of an answer, or as of `problem_of`: not all answers are the API's own."""
    try:
        document = codec.unpack(body, format)
    except Unreadable:
        document = body.decode(errors="replace")
    return problem_of(document, status, retry_after)
