"""Sends an alert to people, through the services that `apprise` knows; the extra `guardwire[notify]` installs it.

An account's user writes these URLs, so they are not trusted. Only services in `SERVICES` are taken, without
parameters that make apprise read files, and the threads that send connect to public addresses alone.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import re
import sys
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, Final
from urllib.parse import unquote

from queries.alert_calls import Claim
from realtime.escalation.addresses import may_be_called
from realtime.escalation.outbox import Result
from realtime.escalation.threads import Threads

#: The schemes of apprise that may be used, each with its service. None of them reads files or speaks to this machine.
SERVICES: Final = {
    "discord": "Discord",
    "gotify": "Gotify",
    "gotifys": "Gotify",
    "mailto": "e-mail",
    "mailtos": "e-mail",
    "ntfy": "ntfy",
    "ntfys": "ntfy",
    "opsgenie": "Opsgenie",
    "pagerduty": "PagerDuty",
    "pover": "Pushover",
    "slack": "Slack",
    "tgram": "Telegram",
    "twilio": "Twilio",
}
#: Others are refused: `template` of Telegram, for example, sends a file of this machine.
_PARAMETERS: Final = frozenset(
    (
        "auth", "bcc", "cc", "channel", "from", "mode", "name", "pass", "priority", "region", "reply", "smtp", "sound",
        "thread", "to", "topic", "user",
    )
)  # fmt: skip
#: For one message; apprise waits up to 4 s for a connection, and as long for an answer.
TIMEOUT_SECONDS: Final = 10.0
_MOST_AT_ONCE: Final = 8
MISSING: Final = "people cannot be reached: install guardwire[notify] on every node"

#: Whether the running thread may connect to public addresses alone.
_is_restricted: ContextVar[bool] = ContextVar("is_restricted", default=False)
_loading: Final = threading.Lock()


class ForbiddenAddress(ConnectionError):
    """A service would have led to an address that may not be called."""


def is_installed() -> bool:
    """Whether apprise is there; it is loaded only when somebody is to be reached."""
    return importlib.util.find_spec("apprise") is not None


def url_problem(url: str) -> str | None:
    """The reason why people cannot be reached by this URL, as a clause; None where its form shows none."""
    if url.partition("://")[0].lower() not in SERVICES:
        return f"must begin with one of {', '.join(f'{scheme}://' for scheme in SERVICES)}"
    # As apprise reads it: from the first question mark on, also in a fragment, and divided by semicolons too.
    pairs = re.split("[&;]", url.partition("?")[2])
    return _parameter_problem(unquote(pair.partition("=")[0]) for pair in pairs)


def _parameter_problem(names: Iterable[str]) -> str | None:
    if not {name.strip().lower() for name in names} <= _PARAMETERS | {""}:
        return f"may have the parameters {', '.join(sorted(_PARAMETERS))} and no others"
    return None


class PeopleSender:
    """Sends deliveries to people."""

    def __init__(self, *, allow_private: bool, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._allow_private = allow_private
        self._timeout_seconds = timeout_seconds
        self._threads = Threads("people", most=_MOST_AT_ONCE)

    async def send(self, claim: Claim) -> Result:
        """Send once; a failure is a result too."""
        if not is_installed():
            return Result("failed", reason=MISSING)
        problem = url_problem(claim.url)
        if problem is not None:
            return Result("failed", reason=f"its URL {problem}")
        title, body = message_of(claim.payload)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                was_sent = await self._threads.run(partial(self._notify, claim.url, title, body))
        except TimeoutError:
            return Result("failed", reason=f"the service did not answer within {self._timeout_seconds:g} s")
        return (
            Result("delivered")
            if was_sent
            else Result("failed", reason="the service did not take the message")
        )

    def _notify(self, url: str, title: str, body: str) -> bool:
        """Whether the service took the message; runs in a thread."""
        apprise = _load()
        _is_restricted.set(not self._allow_private)
        read = apprise.plugins.url_to_dict(url)
        # The check is made on what apprise itself has read.
        if not read or read["schema"] not in SERVICES or _parameter_problem(read["qsd"]) is not None:
            return False
        service = apprise.Apprise()
        return bool(service.add(read)) and bool(
            service.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT)
        )


def _load() -> Any:
    """The module apprise, loaded once."""
    with _loading:
        return _load_once()


@cache
def _load_once() -> Any:
    import apprise

    # Both log URLs, and bot tokens are part of them.
    for name in ("apprise", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # Python has no way to remove a hook, so there is one for all threads.
    sys.addaudithook(_check_connect)
    return apprise


def _check_connect(event: str, arguments: tuple[Any, ...]) -> None:
    """Stop a connection of a restricted thread to an address that may not be called.

    Python calls this for each connection of the process. However the name of an attacker resolves,
    this sees the address that is connected to.
    """
    if event not in ("socket.connect", "socket.sendto") or not _is_restricted.get():
        return
    address = arguments[1]
    # Anything but a pair or quadruple with a host is a Unix socket or worse.
    host = address[0] if isinstance(address, tuple) and isinstance(address[0], str) else ""
    if not may_be_called(host, allow_private=False):
        raise ForbiddenAddress("this address may not be called")


def message_of(payload: str) -> tuple[str, str]:
    """Title and text of an alert for a person who is perhaps asleep, from the payload of its delivery."""
    event = json.loads(payload)
    data = event["data"]
    if event["type"] == "alert.test":
        return "Guardwire: test", f"This is a test for account {data['account']}. Nothing has to be done."
    title = f"Guardwire: {data['severity']} {data['kind']} alert"
    if data.get("subject"):
        title += f", {data['subject']}"
    lines = [f"Account: {data['account']}", f"Since: {data['first_raised_at']}"]
    for name, label in (("observed", "Observed"), ("limit", "Limit"), ("deadline_at", "Act before")):
        if data.get(name) is not None:
            lines.append(f"{label}: {data[name]}")
    if data.get("occurrences", 1) > 1:
        lines.append(f"Occurrences: {data['occurrences']}")
    lines.append("Nobody has acknowledged it.")
    return title, "\n".join(lines)
