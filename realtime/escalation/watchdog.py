"""Calls a URL each minute while the node does its whole work, so that somebody outside notices when it stops."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import uuid
from base64 import b64encode
from collections.abc import Callable
from typing import Final

from standardwebhooks import Webhook, WebhookVerificationError

from queries.alert_calls import Claim
from realtime.errors import UnavailableError
from realtime.escalation.outbound import OutboundRequests
from realtime.escalation.webhook import WebhookSender
from realtime.metrics import METRICS

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 60.0


class Watchdog:
    """Calls the URL when reading, housekeeping and delivering work, and else keeps silent.

    Alerts cannot report that alerts are not sent. A service that expects this call, and does not get it, can.
    """

    def __init__(
        self,
        *,
        url: str,
        problem: Callable[[], str | None],
        requests: OutboundRequests,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        """``problem`` gives the reason why the node does not work, or None; ``requests`` may call this machine."""
        self._url = url
        self._problem = problem
        self._requests = requests
        self._interval_seconds = interval_seconds
        self._reported: str | None = None

    async def run(self) -> None:
        """Run for ever; the first call comes after one interval, when the node has had time to start."""
        while True:
            await asyncio.sleep(self._interval_seconds)
            problem = self._problem() or await self._deliver_to_itself() or await self._call()
            METRICS.watchdog_up.set(float(problem is None))
            if problem is not None and problem != self._reported:
                log.warning("the watchdog's URL was not called: %s", problem)
            elif problem is None and self._reported is not None:
                log.info("the watchdog's URL is called again")
            self._reported = problem

    async def _deliver_to_itself(self) -> str | None:
        """Send a webhook to this node, as any other is sent, and check its signature; the problem, or None."""
        secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
        server = await asyncio.start_server(_Receiver(secret), "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            result = await WebhookSender(self._requests).send(
                Claim(
                    delivery_id=0,
                    message_id=str(uuid.uuid4()),
                    payload=json.dumps({"type": "alert.test"}),
                    kind="webhook",
                    url=f"http://{host}:{port}/",
                    secrets=[secret],
                    attempts=1,
                    deadline_at=None,
                    user_id=uuid.UUID(int=0),
                    endpoint_id=uuid.UUID(int=0),
                )
            )
        return (
            None
            if result.outcome == "delivered"
            else f"a webhook to this node itself failed: {result.reason}"
        )

    async def _call(self) -> str | None:
        """Call the URL; the problem, or None."""
        try:
            answer = await self._requests.send("GET", self._url)
        except UnavailableError as error:
            return str(error)
        return None if 200 <= answer.status < 300 else f"it answered HTTP {answer.status}"


class _Receiver:
    """Answers one webhook: 204 when its signature is right, else 400."""

    def __init__(self, secret: str) -> None:
        self._webhook = Webhook(secret)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            headers = {name.lower(): value for name, value in headers.items()}
            body = await reader.readexactly(int(headers["content-length"]))
            self._webhook.verify(body, headers)
            status = b"204 No Content"
        except (WebhookVerificationError, ValueError, KeyError, EOFError, asyncio.LimitOverrunError, OSError):
            status = b"400 Bad Request"
        try:
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
