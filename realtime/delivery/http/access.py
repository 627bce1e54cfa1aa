"""The way of an HTTP request to an account that it follows, for event streams and polls."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable

from auth.identity import Identity
from auth.refusals import Reason, refusal
from realtime.delivery.drain import Drain
from realtime.delivery.hub import Hub, Waiter
from realtime.delivery.limits import Admission
from realtime.history import Store
from realtime.metrics import Gauge


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamAccess:
    """The parts of a node through which a request follows an account; ``store`` is None without Redis."""

    hub: Hub
    store: Store | None
    recheck: Callable[[Identity], Reason | None]
    admission: Admission
    drain: Drain

    @contextlib.asynccontextmanager
    async def following(self, identity: Identity, gauge: Gauge) -> AsyncIterator[Waiter]:
        """Watch the caller's account while the context lasts, as one of the user's connections that ``gauge`` counts.

        Raises UnavailableError while this node drains, and HTTPException(429) when the user has too many.
        """
        self.drain.refuse()
        async with self.admission.admitted(identity.user_id):
            with self.drain.counting(gauge), Waiter.attached(self.hub, identity.user_id) as waiter:
                yield waiter

    def require_valid(self, identity: Identity) -> None:
        """Raise AuthenticationError when the caller's token no longer holds."""
        reason = self.recheck(identity)
        if reason is not None:
            raise refusal(reason)
