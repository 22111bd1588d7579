"""structlog set-up: lines for people on a terminal, JSON elsewhere; secrets and scope handled once.

Bind context with :func:`context`: the RPC layer binds namespace and request id, the
engine the container id, so that no call has to repeat them.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

# structlog draws tracebacks with rich where that is installed: 60 modules, a fifth of the daemon's
# start, and nothing that a log needs. It does without when the import fails
_RICH = sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
import structlog  # noqa: E402

if _RICH is None:
    del sys.modules["rich"]

__all__ = ["configure", "context", "get"]

context = structlog.contextvars.bind_contextvars
"""Have all lines of this task carry more: ``context(container=id)``."""


def get(name: str) -> Any:
    """A logger whose lines carry ``component=name``."""
    return structlog.get_logger(component=name)


def configure(level: str, stream: TextIO = sys.stderr) -> None:
    """Send all logs of ``level`` and above to ``stream``."""
    threshold = getattr(logging, level.upper())
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if stream.isatty():
        processors.append(
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        )
    else:
        processors += [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    # libraries that log through the standard library (grpc, urllib3) come out too, when it matters
    logging.basicConfig(level=max(threshold, logging.WARNING), handlers=[_Through()], force=True)


class _Through(logging.Handler):
    """Records of the standard library's loggers, as lines like all others."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        log = get(record.name.partition(".")[0])
        if type(error).__name__ == "ExecuteBatchError":
            # grpc.aio's word for a peer that has left while it was being answered
            log.debug("client is gone", what=record.getMessage())
        else:
            log.log(record.levelno, record.getMessage(), exc_info=error)
