"""Log lines: a fixed sentence plus fields, with secrets struck out at the very end.

Redaction works on the finished text (message, fields and traceback), so nothing that a library
puts into a message or an exception gets past it.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from core.secret import Secret

_PLAIN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

_PATTERNS = (
    re.compile(r"\bEAA[A-Za-z0-9]{8,}"),
    re.compile(r"(?i)(bearer\s+)[^\s\"',}]+"),
    re.compile(
        r"(?i)((?:access_token|fb_exchange_token|input_token|client_secret|appsecret_proof|revoke_token)"
        r"[\"']?\s*[=:]\s*[\"']?)[^\s&\"',}]+"
    ),
    re.compile(r"(?i)(password[\"']?\s*[=:]\s*)(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s&\"',}]+)"),
    re.compile(r"(?i)(postgres(?:ql)?(?:\+\w+)?://[^:/@\s]+:)(?!PASSWORD@)[^@\s]+(?=@)"),
)

_known: set[Secret] = set()
_hushed: ContextVar[bool] = ContextVar("hushed", default=False)


def keep_out(secrets: Iterable[Secret]) -> None:
    """Name secrets of this process that must be struck from every line, whatever their shape."""
    _known.update(secrets)


def redact(text: str) -> str:
    """`text` without tokens, app secrets and passwords."""
    for secret in _known:
        text = secret.strike(text)
    for pattern in _PATTERNS:
        text = pattern.sub(lambda m: (m.group(1) if m.lastindex else "") + "[secret]", text)
    return text


@contextmanager
def hushed() -> Iterator[None]:
    """Inside, no line of this thread (nor of threads that copy its context) is written.

    For calls to addresses that are secrets as a whole: libraries log them in spellings that nobody can foresee.
    """
    mark = _hushed.set(True)
    try:
        yield
    finally:
        _hushed.reset(mark)


def _is_heard(record: logging.LogRecord) -> bool:  # noqa: ARG001
    return not _hushed.get()


class Line(logging.Formatter):
    """`2026-11-23T12:00:00.123Z INFO  refresh  token refreshed  token=fp_… apps=3`."""

    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s  %(message)s")
        import time

        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        fields = " ".join(f"{k}={v}" for k, v in record.__dict__.items() if k not in _PLAIN)
        head, newline, rest = text.partition("\n")
        return redact(f"{head}  {fields}{newline}{rest}" if fields else text)


def setup(level: str = "INFO") -> None:
    """One handler at the root, writing to standard error; every other handler goes through it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line())
    handler.addFilter(_is_heard)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    if logging.getLogger().level > logging.DEBUG:
        logging.getLogger("alembic").setLevel(logging.WARNING)
        logging.getLogger("pgqueuer").setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def adopt_foreign_handlers() -> None:
    """Put our formatter and filter on handlers that a framework (Streamlit) attached to its own loggers."""
    for logger in list(logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):
            handler.setFormatter(Line())
            handler.addFilter(_is_heard)
