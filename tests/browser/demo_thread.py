"""The demo in a thread of the tests' process, with its bot and its simulated platform."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from auth.development import DevelopmentKey
from realtime.cli.demo import play
from realtime.settings import Settings
from realtime.simulator import SimulatorOptions
from tests.browser.dashboard_thread import in_thread


@contextlib.contextmanager
def demo_in_thread(settings: Settings, options: SimulatorOptions, key: DevelopmentKey) -> Iterator[int]:
    """Play the demo while the context lasts; yields the server's port."""

    async def serve(begun: Callable[[str], None], ended: asyncio.Event) -> None:
        async with play(settings, settings.database_url, options, key=key, stop=ended) as (url, platform):
            begun(url)
            await platform

    with in_thread(serve, name="demo") as port:
        yield port
