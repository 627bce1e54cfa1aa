/**
 * The shape of the state that a client mirrors (PROTOCOL.md, "The state"). Types only.
 *
 * An absent field is null. Times are ISO 8601 UTC text, percentages are 0-100, money has two decimals. Collections are
 * objects keyed by identity.
 *
 * @typedef {object} AccountEvent
 * @property {string} event_type
 * @property {string} created_at
 * @property {string} description
 * @property {string} [symbol]
 * @property {string} [mt5_ticket]
 * @property {0 | 1 | 2} [matched]
 * @property {number} [pnl_gbp]
 * @property {string} [divergence_reason]
 * @property {string} [notice] what the server itself found: `clock_offset`, `position_unconfirmed`, …
 *
 * @typedef {object} Status
 * @property {"healthy" | "idle" | "warning" | "unknown"} status
 * @property {"live" | "silent"} source `silent` when the platform has not synced for too long
 * @property {number} total_syncs
 * @property {number} open_positions_count
 * @property {number} matched_positions
 * @property {number} divergences_detected
 * @property {{ [eventId: string]: AccountEvent }} recent_events
 * @property {string} [last_sync_at]
 * @property {number} [last_sync_duration_ms]
 * @property {string} [error_message] never absent while `status` is `warning`
 * @property {number} [clock_offset_seconds] how far the platform's clock is behind (below 0: ahead), beyond a minute
 * @property {true} [counts_at_arrival] the platform's clock went back, and rows count at their arrival since
 * @property {false} [recorded] the platform never wrote a row of this account
 *
 * @typedef {object} Position
 * @property {string} position_id
 * @property {string} entry_time
 * @property {string} last_updated_at
 * @property {string} [symbol]
 * @property {"buy" | "sell"} [direction]
 * @property {number} [volume] lots
 * @property {number} [entry_price]
 * @property {number} [current_price]
 * @property {number} [unrealized_pnl] in `pnl_currency`
 * @property {number} [unrealized_pnl_pct]
 * @property {string} [pnl_currency]
 * @property {number} [take_profit]
 * @property {number} [stop_loss]
 * @property {true} [contract_size_assumed] the symbol is not in the instruments table
 * @property {string} [instrument] what the symbol means, where it is decorated
 * @property {string} [unconfirmed_since] the platform no longer mentions it while it syncs others
 * @property {0 | 2} [matched] only in `unmatched`: 2 when broker and bot diverge
 * @property {string} [divergence_reason] only in `unmatched`
 *
 * @typedef {object} Positions
 * @property {number} total_positions
 * @property {{ [ticket: string]: Position }} open
 * @property {{ [ticket: string]: Position }} [unmatched] open, but broker and bot do not agree: in no sum
 * @property {number} [total_unrealized_pnl] absent when a profit is unknown, assumed or not converted
 * @property {number} [total_unrealized_pnl_pct] of the balance
 * @property {string} [currency]
 * @property {string} [last_updated_at]
 *
 * @typedef {object} Drawdown
 * @property {"normal" | "warning" | "critical" | "unknown"} alert_type
 * @property {boolean} should_close_all
 * @property {number} alert_threshold_pct
 * @property {number} warning_pct
 * @property {number} critical_pct
 * @property {number} minimum_equity in `currency`
 * @property {number} [current_equity]
 * @property {number} [peak_equity]
 * @property {number} [current_drawdown_pct]
 * @property {string} [currency]
 * @property {string} [liquidation_at] only while critical
 * @property {string} [last_checked_at]
 * @property {string} [doubt] why the equity cannot be trusted: `implausible`, `older`, `overdue`, …
 * @property {number} [doubted_equity] what was read and is implausible
 *
 * @typedef {object} MarketAlert
 * @property {string} symbol `*` when the platform named none
 * @property {"price_gap" | "bid_ask_spread" | "low_liquidity" | "other"} condition_type
 * @property {"normal" | "warning" | "critical"} alert_type `normal` in `normal_alerts` alone
 * @property {boolean} should_close_positions
 * @property {string} detected_at
 * @property {number} [price_gap_pct]
 * @property {number} [bid_ask_spread_pct]
 * @property {number} [open_price]
 * @property {number} [close_price]
 * @property {number} [bid]
 * @property {number} [ask]
 *
 * @typedef {object} Breach
 * @property {"drawdown" | "market"} kind
 * @property {string} raised_at
 * @property {string} [cleared_at] absent while it lasts
 * @property {number} [observed_pct]
 * @property {string} [symbol]
 * @property {string} [condition_type]
 *
 * @typedef {object} Guards
 * @property {"healthy" | "warning" | "unknown"} system_status
 * @property {boolean} any_positions_should_close
 * @property {Drawdown} drawdown
 * @property {{ [symbolAndCondition: string]: MarketAlert }} alerts
 * @property {{ [breachId: string]: Breach }} breaches
 * @property {{ [symbolAndCondition: string]: MarketAlert }} [normal_alerts] what the platform reported within the limits
 *
 * @typedef {object} Alert
 * @property {number} generation grows when it is raised again
 * @property {string} kind `drawdown`, `market`, `unattended`, `delivery`, …: one that a client does not know is to act on
 * @property {"warning" | "critical"} severity
 * @property {string} subject
 * @property {string} [symbol]
 * @property {"price_gap" | "bid_ask_spread" | "low_liquidity" | "other"} [condition_type]
 * @property {string} first_raised_at
 * @property {string} raised_at
 * @property {string} [deadline_at]
 * @property {number} occurrences how often this generation was raised
 * @property {number} [observed]
 * @property {number} [limit]
 * @property {string} [acknowledged_by]
 * @property {string} [acknowledged_at]
 * @property {"received" | "acting" | "done"} [action]
 * @property {string} [hold_until] when the book has to show that somebody acted
 * @property {string} [snoozed_until]
 * @property {number} level 0 the stream, 1 webhooks, 2 people, then both
 * @property {string} [resolved_at]
 * @property {string} [voided_at]
 *
 * @typedef {object} Attendance
 * @property {boolean} armed
 * @property {"attended" | "unattended" | "disarmed"} status
 * @property {string} [since]
 * @property {string} [grace_until] while unattended: when the alarm is raised
 * @property {{ [name: string]: { since: string } }} attendants
 *
 * @typedef {object} Alerts
 * @property {number} unacknowledged
 * @property {{ [alertId: string]: Alert }} open until they are resolved and acknowledged
 * @property {Attendance} attendance
 *
 * @typedef {object} AccountState a channel that was not subscribed to is absent
 * @property {Status} [status]
 * @property {Positions} [positions]
 * @property {Guards} [guards]
 * @property {Alerts} [alerts]
 */

export {};
