"""Orders to the simulated platform while it runs, from the accounts' bots and from visitors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID


class CloseOrder(NamedTuple):
    """Close the position ``ticket`` of an account."""

    user_id: UUID
    ticket: int


@dataclass(slots=True)
class Orders:
    """Orders that wait for the platform's next step. One for a position that is not open does no harm."""

    _closes: list[CloseOrder] = field(default_factory=list)
    _widens: bool = False

    def close(self, user_id: UUID, ticket: int) -> None:
        """Close a position."""
        self._closes.append(CloseOrder(user_id, ticket))

    def widen_spread(self) -> None:
        """Let the first account's next wide spread come now."""
        self._widens = True

    def take_closes(self) -> list[CloseOrder]:
        """The closes that wait; they wait no more."""
        closes, self._closes = self._closes, []
        return closes

    def take_widening(self) -> bool:
        """Whether a wide spread was asked for; it is asked for no more."""
        widens, self._widens = self._widens, False
        return widens
