"""How a refusal by Meta, or a broken way to it, is raised."""

from __future__ import annotations

from typing import Final

from core.errors import CoreError
from core.logs import redact
from core.meta.failures import Failure

WORDS: Final = 500
ANSWER: Final = 16 * 1024


class GraphError(CoreError):
    """Meta refused, or could not be reached.

    `failure` is ours, `code`, `subcode`, `words` and `trace_id` are Meta's; `fingerprint` names the token it was about.
    """

    def __init__(
        self,
        failure: Failure,
        words: str = "",
        *,
        name: str = "",
        code: int | None = None,
        subcode: int | None = None,
        trace_id: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        answer: str = "",
        ambiguous: bool = False,
        blame: int | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.fingerprint = fingerprint
        self.failure, self.name, self.words = failure, name, redact(words)[:WORDS]
        self.code, self.subcode, self.trace_id, self.status = code, subcode, trace_id, status
        self.retry_after, self.ambiguous, self.blame = retry_after, ambiguous, blame
        self.answer = redact(answer)[:ANSWER]
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        codes = [str(number) for number in (self.code, self.subcode) if number is not None]
        notes = ["/".join(codes)] if codes else []
        notes += [f"trace {self.trace_id}"] if self.trace_id else []
        words = self.words or self.name or self.failure.value
        return f"{words} ({', '.join(notes)})" if notes else words
