"""How a stream ends over what went wrong: for one client, who is told, and for nobody else."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Any

from auth.refusals import Reason, close_code, refusal
from guardwire.errors import CloseCode
from realtime.delivery.hints import retry_after_ms
from realtime.delivery.socket import Socket
from realtime.errors import AuthenticationError, StreamClosed, TooManyClaims, UnavailableError
from realtime.logs import SESSION_ID
from realtime.metrics import METRICS
from realtime.owners import WrongOwner

log = logging.getLogger(__name__)


def refuse(socket: Socket, error: AuthenticationError) -> None:
    """Close it over a token."""
    METRICS.auth_failures.add(1, error.reason)
    code = close_code(error)
    hint = retry_after_ms(1000, 5000) if code is CloseCode.OVERLOADED else None
    socket.close(code, str(error), retry_after_ms=hint)


def end(socket: Socket, reason: Reason) -> None:
    """Close it because the token that it began or went on with holds no longer."""
    error = refusal(reason)
    socket.close(close_code(error), str(error))


def stop_crossing(socket: Socket) -> None:
    """Nothing is sent of what is another's, and the client comes back to a node that has read anew."""
    socket.close(CloseCode.OVERLOADED, "please reconnect", retry_after_ms=retry_after_ms(1000, 5000))


async def guard(socket: Socket, work: Coroutine[Any, Any, None]) -> None:
    """Whatever goes wrong for one client is told to that client and ends there."""
    SESSION_ID.set(socket.session_id)
    try:
        await work
    except StreamClosed as closed:
        socket.close(closed.close_code, closed.reason)
    except WrongOwner:
        stop_crossing(socket)
    except TooManyClaims as error:
        hint = 1000 * error.retry_after_seconds
        socket.close(CloseCode.RATE_LIMITED, str(error), retry_after_ms=retry_after_ms(hint, 2 * hint))
    except UnavailableError as error:
        socket.close(CloseCode.OVERLOADED, str(error), retry_after_ms=retry_after_ms(1000, 5000))
    except Exception:
        log.exception("a stream failed")
        socket.close(CloseCode.OVERLOADED, "internal error", retry_after_ms=retry_after_ms(1000, 5000))
