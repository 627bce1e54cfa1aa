"""The positions that a query asks for: of one symbol, or the one of an id. Pure."""

from __future__ import annotations

from guardwire.patch import State
from realtime.delivery.http.documents import named, total


def restrict(positions: State, symbol: str) -> State:
    """The channel ``positions`` restricted to ``symbol``, in any case, with totals as REST's document has them: of the
    positions listed, and without the percentage of a part.
    """
    listed = named(positions["open"], symbol)
    if len(listed) == len(positions["open"]):
        whole = positions
    else:
        whole = {name: value for name, value in positions.items() if not name.startswith("total_unrealized_")}
        sum_of_listed = total(listed.values(), positions.get("currency"))
        if sum_of_listed is not None:
            whole["total_unrealized_pnl"] = sum_of_listed
    restricted = whole | {"total_positions": len(listed), "open": listed}
    if "unmatched" in positions:
        restricted["unmatched"] = named(positions["unmatched"], symbol)
    return restricted


def find_position(positions: State, position_id: str) -> tuple[str, State] | None:
    """Ticket and state of the open position with this id, matched or not; None where none has it."""
    for book in (positions["open"], positions.get("unmatched", {})):
        for ticket, position in book.items():
            if position["position_id"] == position_id:
                return ticket, position
    return None
