"""The page itself is readable for everybody, on every screen, in every state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.browser.trader import Trader

SIZES = {
    "smallest phone": (360, 640),
    "phone": (390, 844),
    "tablet": (820, 1180),
    "laptop": (1280, 800),
    "wide": (1600, 1000),
}


def script(name: str) -> str:
    """A JavaScript function that examines the page, from the file of that name."""
    return (Path(__file__).parent / "looks" / f"{name}.js").read_text()


def a_full_book(trader: Trader) -> None:
    """Fifty positions, one of them with a very long symbol, alerts, breaches and events."""
    trader.equity(10_000)
    trader.equity(7_900)
    trader.execute(
        """INSERT INTO reconciliation_logs (user_id, mt5_position_id, symbol, direction, volume, entry_price,
                                            current_price, stop_loss, take_profit, matched, event_type,
                                            status, created_at)
           SELECT $1::uuid, 2147480000 + n,
                  (ARRAY['EURUSD', 'XAUUSD', 'BTCUSD', repeat('LONG.SYMBOL', 6)])[1 + n % 4],
                  (ARRAY['buy', 'sell'])[1 + n % 2], 0.1 * n, 1900 + n, 1900 + n * 1.01, 1800, 2100, 1,
                  'sync', 'success', now() - n * interval '1 second'
           FROM generate_series(1, 50) AS n""",
        trader.user_id,
    )
    for symbol, reason, before, after in (("XAUUSD", "gap", 100, 112), ("EURUSD", "spread", 1.09, 1.0967)):
        trader.append(
            None,
            event_type="guard_trigger",
            symbol=symbol,
            divergence_reason=reason,
            entry_price=before,
            current_price=after,
        )


SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def nothing(_: Trader) -> None:
    """An account without any data."""


@pytest.mark.parametrize("fill", [nothing, a_full_book], ids=["nothing", "a full book"])
def test_it_fits_every_screen_in_light_and_dark_and_every_text_stands_out(
    dashboard: Dashboard, trader: Trader, fill: Callable[[Trader], None]
) -> None:
    fill(trader)
    dashboard.open()
    faults = []
    for size, (width, height) in SIZES.items():
        dashboard.page.set_viewport_size({"width": width, "height": height})
        for scheme in SCHEMES:
            dashboard.page.emulate_media(color_scheme=scheme)
            for look in ("contrast", "overflow"):
                faults += [f"{size}, {scheme}: {fault}" for fault in dashboard.evaluate(script(look))]
    assert not faults, "\n".join(faults)


def test_what_lost_its_authority_still_stands_out(dashboard: Dashboard, trader: Trader) -> None:
    dashboard.page.clock.install()
    a_full_book(trader)
    dashboard.open()
    with trader.nobody_else_connected():
        dashboard.expect_word("Stale")
        for scheme in SCHEMES:
            dashboard.page.emulate_media(color_scheme=scheme)
            assert dashboard.evaluate(script("contrast")) == []
        # The browser's own connection goes on, while the page believes that it slept.
        dashboard.page.context.set_offline(True)
        dashboard.network_fails = True
        dashboard.page.clock.fast_forward("10:00")
        dashboard.expect_word("Blind")
        for scheme in SCHEMES:
            dashboard.page.emulate_media(color_scheme=scheme)
            assert dashboard.evaluate(script("contrast")) == []


def test_everything_has_a_name_and_a_role(dashboard: Dashboard, trader: Trader) -> None:
    a_full_book(trader)
    dashboard.open()
    page = dashboard.page
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("banner")).to_have_count(1)
    expect(page.get_by_role("main")).to_have_count(1)
    regions = ("Unrealized P&L", "Drawdown", "Sync", "Market alerts", "Open positions", "Breaches", "Events")
    for name in regions:
        expect(page.get_by_role("region", name=name)).to_have_count(1)
        expect(page.get_by_role("heading", name=name, level=2)).to_have_count(1)
    table = page.get_by_role("table", name="Open positions")
    expect(table.get_by_role("columnheader")).to_have_count(11)
    expect(table.get_by_role("rowheader")).to_have_count(50)
    expect(table.get_by_role("row")).to_have_count(51)
    meter = page.get_by_role("meter", name="Drawdown")
    expect(meter).to_have_attribute("aria-valuetext", "21 %, critical")
    expect(page.get_by_role("timer")).to_be_visible()
    # A symbol that is in no table of instruments leaves no total, and so no chart.
    expect(page.get_by_text("12 of 50 positions have no known contract size")).to_be_visible()
    assert dashboard.evaluate(script("nameless")) == []
    assert page.locator("html").get_attribute("lang") == "en"


def test_on_a_phone_the_table_is_still_a_table(dashboard: Dashboard, trader: Trader) -> None:
    a_full_book(trader)
    dashboard.page.set_viewport_size({"width": 390, "height": 844})
    dashboard.open()
    table = dashboard.page.get_by_role("table", name="Open positions")
    expect(table.get_by_role("rowheader")).to_have_count(50)
    assert table.get_by_role("cell").count() == 500
    for column in ("stop", "target", "opened", "ticket", "share"):
        expect(dashboard.page.locator(f"tbody .{column}").first).to_be_visible()


def test_the_keyboard_reaches_all_there_is_to_do_and_shows_where_it_is(dashboard: Dashboard) -> None:
    dashboard.open()
    dashboard.page.keyboard.press("Tab")
    skip = dashboard.page.get_by_role("link", name="Skip to positions")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    assert skip.evaluate("link => getComputedStyle(link).outlineStyle") == "solid"
    dashboard.page.keyboard.press("Enter")
    expect(dashboard.page.locator("gw-positions")).to_be_focused()


def test_a_busy_account_does_not_chatter_to_screen_readers(dashboard: Dashboard, trader: Trader) -> None:
    trader.open(7001, "XAUUSD", 1950.50)
    dashboard.open()
    polite = dashboard.page.get_by_role("status")
    expect(polite).to_have_text("Live.")
    dashboard.evaluate(script("listen"))
    for step in range(10):
        trader.move(7001, 1951 + step)
    expect(dashboard.cell(7001, "price")).to_have_text("1,960.00")
    assert dashboard.evaluate("window.announced") == []


def test_the_page_keeps_its_own_security_policy(dashboard: Dashboard) -> None:
    dashboard.open()
    response = dashboard.page.request.get(dashboard.page.url)
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    # The browser itself then refuses to take text for markup or code: tests/browser/test_trusted_types.py.
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert dashboard.page.locator("[style], [onclick], script:not([src]), style").count() == 0
    fetched = dashboard.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert fetched
    assert all(address.startswith(dashboard.page.url) for address in fetched)
