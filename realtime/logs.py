"""Log lines: one JSON object a line for machines, or one line of text for people; on standard error.

No token, payload, header or query string ever appears in a line, at any level, and this module sees to it for every
log call. Libraries are logged from `WARNING` on, with the first line of their message alone, because at `DEBUG` they
write the bytes of the wire. A line about an exception has its type and place, and its message only where the
exception is one of this project: drivers quote the values that they cannot handle.

Writing never waits. Lines go through a bounded memory to a thread. When the disk is full, or nobody reads the pipe,
lines are lost and counted, and the server goes on.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections import deque
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Literal

from guardwire.errors import ClientError, GuardwireError
from realtime.errors import StreamClosed
from realtime.metrics import METRICS

#: The request that is being answered, and the stream that is being served; empty outside of any.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
SESSION_ID: ContextVar[str] = ContextVar("session_id", default="")

#: Logger of the lines about clients that come and go.
CONNECTIONS: Final = "realtime.delivery.connections"
LINES_KEPT: Final = 10_000
_OURS: Final = frozenset({"app", "auth", "guardwire", "queries", "realtime"})
#: The fields that a log call may add to its line by ``extra``, beside the ids.
_EXTRAS: Final = ("user", "method", "path", "status", "code", "duration_ms")
_MESSAGE_CHARACTERS: Final = 2_000
_FOREIGN_CHARACTERS: Final = 200
_FRAMES: Final = 30
_SEPARATORS: Final = frozenset(' "=')
_CAUSES: Final = 5
_FLUSH_SECONDS: Final = 1.0
_FULL_PIPE_SECONDS: Final = 0.05

Fields = dict[str, Any]


class Lines(logging.Formatter):
    """Turns records into lines; ``node`` is the name of this server among its siblings."""

    def __init__(self, *, style: Literal["json", "text"], node: str) -> None:
        super().__init__()
        self._is_text = style == "text"
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        fields = self._fields(record)
        return _as_text(fields) if self._is_text else _as_json(fields)

    def _fields(self, record: logging.LogRecord) -> Fields:
        fields: Fields = {
            "time": _time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
            "node": self._node,
        }
        for name, context in (("request_id", REQUEST_ID), ("session_id", SESSION_ID)):
            value = getattr(record, name, "") or context.get()
            if value:
                fields[name] = value
        fields.update((name, vars(record)[name]) for name in _EXTRAS if name in vars(record))
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and (_is_ours(record) or record.levelno >= logging.ERROR):
            fields["exception"] = describe_error(error)
        elif error is not None:
            # A library that only warns goes on by itself, so the place inside of it is of no use.
            fields["message"] += f" ({type(error).__name__})"
        return fields


def describe_error(error: BaseException, causes: int = _CAUSES) -> Fields:
    """The type of ``error`` and the place where it was raised, without the value of any variable."""
    kind = type(error)
    fields: Fields = {"type": f"{kind.__module__}.{kind.__qualname__}"}
    words = _safe_words(error)
    if words:
        fields["message"] = words[:_MESSAGE_CHARACTERS]
    fields["frames"] = [
        f"{frame.filename}:{frame.lineno} {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    ]
    inner = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if inner is not None and causes:
        fields["cause"] = describe_error(inner, causes - 1)
    if isinstance(error, BaseExceptionGroup) and causes:
        fields["members"] = [describe_error(member, causes - 1) for member in error.exceptions[:_CAUSES]]
    return fields


def _safe_words(error: BaseException) -> str:
    if isinstance(error, GuardwireError) and not isinstance(error, StreamClosed | ClientError):
        return str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    state = getattr(error, "sqlstate", None)
    return f"SQLSTATE {state}" if isinstance(state, str) else ""


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name.split(".", 1)[0] in _OURS


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if _is_ours(record):
        return message[:_MESSAGE_CHARACTERS]
    # Beyond its first line asyncio lists the objects at hand, with their contents.
    return message.partition("\n")[0][:_FOREIGN_CHARACTERS]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _as_json(value: object) -> str:
    """JSON in one line that a terminal shows as it is: what is not printable is escaped, be it a control
    character (JSON itself would let C1 through) or one that turns the direction of writing.
    """
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def _as_text(fields: Fields) -> str:
    said = {"time", "level", "logger", "message", "node", "exception"}
    rest = "".join(f" {name}={_word(value)}" for name, value in fields.items() if name not in said)
    line = f"{fields['time']} {fields['level']} {fields['logger']} {_printable(fields['message'])}{rest}"
    error = fields.get("exception")
    while error:
        line += f"\n  {error['type']}: {_printable(error.get('message', ''))}".rstrip(": ")
        line += "".join(f"\n    {_printable(frame)}" for frame in error["frames"])
        error = error.get("cause")
    return line


def _printable(text: str) -> str:
    """``text`` in one line, with escapes for what is not printable, and for the backslash that begins one."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() and each != "\\" else each.encode("unicode_escape").decode()
        for each in text
    )


def _word(value: object) -> str:
    """``value`` so that no part of it passes for another field: in quotes where it has spaces or quotes."""
    text = str(value)
    return text if text.isprintable() and not _SEPARATORS.intersection(text) else _as_json(text)


class Sink(logging.Handler):
    """Writes lines to a file descriptor from a thread of its own; lines that it cannot write are dropped and
    counted.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._any = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one line to the thread; never waits and never raises."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:  # an odd argument of a log call must not raise in its caller
            METRICS.log_lines_lost.add()
            return
        if len(self._waiting) >= LINES_KEPT:
            METRICS.log_lines_lost.add()
            return
        self._idle.clear()
        self._waiting.append(line)
        self._any.set()

    def flush(self) -> None:
        """Wait a moment for what is not written yet."""
        self._idle.wait(_FLUSH_SECONDS)

    @property
    def idle(self) -> bool:
        """Whether all lines so far are written or lost."""
        return self._idle.is_set()

    def _run(self) -> None:
        while True:
            self._any.wait()
            self._any.clear()
            while self._waiting:
                line = self._waiting.popleft()
                try:
                    self._write(line)
                except OSError:
                    METRICS.log_lines_lost.add()
            self._idle.set()
            if self._waiting:  # it came between the last look and the word
                self._idle.clear()
                self._any.set()

    def _write(self, line: bytes) -> None:
        while line:
            try:
                line = line[os.write(self._descriptor, line) :]
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
                time.sleep(_FULL_PIPE_SECONDS)


def configure(
    *, level: str, style: Literal["json", "text"], node: str, connections: bool = False, descriptor: int = 2
) -> Sink:
    """Send the log lines of this process to ``descriptor``, and all else that Python would print there.

    ``connections`` adds lines at INFO about clients that come and go, also where ``level`` is higher.
    """
    sink = Sink(descriptor)
    sink.setFormatter(Lines(style=style, node=node))
    root = logging.getLogger()
    root.handlers[:] = [sink]
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    logging.getLogger(CONNECTIONS).setLevel(logging.INFO if connections else logging.WARNING)
    # A logger that is failing must not print about itself.
    logging.raiseExceptions = False
    logging.captureWarnings(True)
    logging.getLogger("asyncio").addFilter(_soften)
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = lambda failed: _uncaught(failed.exc_type, failed.exc_value, failed.exc_traceback)
    return sink


def _soften(record: logging.LogRecord) -> bool:
    """Make a line of what is none of ours: asyncpg forgets a future when a server hangs up on its greeting,
    as one that restarts does, and asyncio then complains at length.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, ConnectionError) and "never retrieved" in str(record.msg):
        record.levelno, record.levelname = logging.INFO, "INFO"
        record.msg, record.exc_info = "a connection broke while it was being made", None
    return True


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is not None and not issubclass(kind, KeyboardInterrupt | SystemExit):
        _log.critical("nobody caught an error", exc_info=(kind, error, trace))


def _unraisable(failed: Any) -> None:
    error = failed.exc_value
    _log.error("an error could not be raised", exc_info=None if error is None else error)


_log = logging.getLogger(__name__)
