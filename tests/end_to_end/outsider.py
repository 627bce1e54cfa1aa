"""A third-party client in Node: see `outsider.js`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

_ROOT: Final = Path(__file__).parents[2]
_PROGRAM: Final = Path(__file__).with_name("outsider.js")
_LIBRARIES: Final = ("ws", "json-merge-patch")
#: A line is one account's state.
_LINE_BYTES: Final = 2**22


class Outsider:
    """A running program, and the newest line that it printed of each account, by the number of its token."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.held: dict[int, dict[str, Any]] = {}
        self._process = process

    async def read(self) -> None:
        """Read the program's output until it ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            found = json.loads(line)
            self.held[found["number"]] = found

    async def until_revision(self, number: int, revision: int, *, seconds: float = 10.0) -> dict[str, Any]:
        """Its state of an account, once that is at ``revision`` or later."""
        async with asyncio.timeout(seconds):
            while self.held.get(number, {"revision": -1})["revision"] < revision:
                assert self._process.returncode is None, "the program has ended"
                await asyncio.sleep(0.01)
        return self.held[number]


@contextlib.asynccontextmanager
async def outsider(urls: Sequence[str], tokens: Sequence[str]) -> AsyncIterator[Outsider]:
    """Follow the accounts of ``tokens`` over the nodes at ``urls`` while the context lasts; see `lacking`."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(_PROGRAM),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        env={"PATH": os.environ["PATH"]},
        limit=_LINE_BYTES,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"urls": list(urls), "tokens": list(tokens)}).encode())
    process.stdin.close()
    program = Outsider(process)
    reading = asyncio.create_task(program.read(), name="outsider")
    try:
        yield program
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


def lacking() -> str | None:
    """The part that the program needs and this machine lacks; None when nothing is missing."""
    if shutil.which("node") is None:
        return "Node.js is not here"
    missing = [name for name in _LIBRARIES if not (_ROOT / "node_modules" / name).is_dir()]
    return (
        f"Node.js lacks {' and '.join(missing)} here: npm ci --ignore-scripts installs them"
        if missing
        else None
    )
