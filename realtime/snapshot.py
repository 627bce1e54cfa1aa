"""One account's state at one revision: immutable, and shared by everybody who is sent it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from guardwire.messages import encode
from guardwire.patch import State, diff
from guardwire.state import CHANNELS
from realtime.owners import is_same

#: An update is encoded once for all sockets at one revision; with many bases only the latest few are worth
#: keeping.
_PATCHES_KEPT: Final = 8

#: zlib's level: higher ones save a fiftieth and take a third longer.
_QUICKLY: Final = 1
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode

Channels = tuple[str, ...]


class Freshness(NamedTuple):
    """When the read began that last showed a state to be the newest: the database's time, and how long ago
    that was.
    """

    as_of: str
    age_ms: int


#: An update frame depends on these: the patch, the revision that it leads from, and the freshness of the state.
UpdateKey = tuple[bytes, int, Freshness]


class Snapshot:
    """The state of ``user_id`` at ``(epoch, revision)``, first read at ``as_of``.

    ``state`` holds every channel and must not be changed; while it is packed, reading it costs some 30 µs
    each time. How fresh it is travels beside it, in `Freshness`.
    ``documents`` keeps documents that are made of the state, by name, so that each is made once.
    """

    __slots__ = (
        "_packed", "_patches", "_shared_update", "_state", "_was_used", "_wholes", "as_of", "documents", "epoch",
        "revision", "user_id",
    )  # fmt: skip

    def __init__(self, *, user_id: UUID, epoch: int, revision: int, as_of: str, state: State) -> None:
        self.user_id = user_id
        self.epoch = epoch
        self.revision = revision
        self.as_of = as_of
        self._state: State | None = state
        self._packed = b""
        self.documents: dict[str, bytes] = {}
        self._shared_update: tuple[UpdateKey, Any] | None = None
        self._was_used = True
        self._wholes: dict[Channels, bytes] = {}
        self._patches: dict[tuple[int, Channels], bytes] = {}

    def __repr__(self) -> str:
        return f"<Snapshot {self.user_id} {self.epoch}:{self.revision}>"

    @property
    def state(self) -> State:
        """The state, every channel of it."""
        return self._state if self._state is not None else _decode(zlib.decompress(self._packed))

    def pack(self) -> None:
        """Keep the state in as little memory as can be: an eighth of what it takes as objects."""
        if self._state is not None:
            self._packed = zlib.compress(encode(self._state), _QUICKLY)
            self._state = None

    def cache_patch(self, base: Snapshot, choices: Iterable[Channels], patch: State) -> None:
        """Keep ``patch``, which leads from ``base`` to this in each choice of channels, so that `patch_from` need not
        compute it.
        """
        encoded = encode(patch)
        for channels in choices:
            self._patches[base.revision, channels] = encoded

    def shared_update(self, key: UpdateKey) -> Any:
        """The update frame that `share_update` kept for ``key``; None when another one, or none, is kept."""
        kept = self._shared_update
        return kept[1] if kept is not None and kept[0] == key else None

    def share_update(self, key: UpdateKey, frame: Any) -> None:
        """Keep ``frame`` for the next client that holds the same: most clients of one account get one update."""
        self._shared_update = key, frame

    def select(self, channels: Channels) -> State:
        """The state restricted to ``channels``."""
        state = self.state
        return {channel: state[channel] for channel in channels}

    def encoded(self, channels: Channels) -> bytes:
        """JSON of the state restricted to ``channels``; the same bytes for everybody."""
        self._was_used = True
        whole = self._wholes.get(channels)
        if whole is None:
            if self._state is None and channels == CHANNELS:
                whole = zlib.decompress(self._packed)
            else:
                whole = encode(self.select(channels))
            self._wholes[channels] = whole
        return whole

    def forget_unused(self) -> None:
        """Drop what was encoded and not asked for since the last call: it can be made again."""
        if not self._was_used:
            self._wholes.clear()
            self._patches.clear()
            self.documents.clear()
            self._shared_update = None
        self._was_used = False

    def patch_from(self, base: Snapshot, channels: Channels) -> bytes:
        """JSON merge patch from ``base`` to this, restricted to ``channels``; ``{}`` when nothing there
        changed.

        Raises ValueError when the two are of different accounts.
        """
        if not is_same(base.user_id, self.user_id):
            raise ValueError("a patch may not cross accounts")
        key = (base.revision, channels)
        patch = self._patches.get(key)
        if patch is None:
            if len(self._patches) >= _PATCHES_KEPT:
                self._patches.pop(next(iter(self._patches)))
            patch = self._patches[key] = encode(diff(base.select(channels), self.select(channels)))
        return patch
