import assert from "node:assert/strict";
import { test } from "node:test";

import { countdown, decimalsOf, duration, money, number, signed, tone } from "../../static/elements/format.js";
import { Decimals } from "../../static/elements/decimals.js";
import { History } from "../../static/elements/history.js";
import { sparkline } from "../../static/elements/sparkline.js";
import { Tokens, claimsOf } from "../../static/elements/tokens.js";

// The elements themselves are tested in a real browser; here only what they decide.
globalThis.HTMLElement = class {};
const { alarmOf } = await import("../../static/elements/alarm.js");
const { concerns, demandOf } = await import("../../static/elements/demand.js");
const { standingOf, titleOf } = await import("../../static/elements/open_alert.js");
const { attendanceOf } = await import("../../static/elements/open_alerts.js");
const { newestFirst } = await import("../../static/elements/positions.js");
const { sentence } = await import("../../static/elements/notice.js");
const { silentForMs } = await import("../../static/elements/platform.js");
const { wordFor } = await import("../../static/elements/connection_state.js");

test("numbers have grouping, a true minus and the decimals asked for", () => {
  assert.equal(money(1234567.5), "1,234,567.50");
  assert.equal(money(-0.004), "0.00");
  assert.equal(signed(12), "+12.00");
  assert.equal(signed(-12.345), "−12.35");
  assert.equal(signed(0), "0.00");
  assert.equal(number(1.08421, 2, 8), "1.08421");
  assert.equal(money(undefined), "–");
});

test("a gain and a loss have a tone, nothing has none", () => {
  assert.deepEqual([5, -5, 0, undefined].map(tone), ["gain", "loss", "", ""]);
});

test("decimals are those that a number was given with", () => {
  assert.deepEqual([1.0842, 1950, 0.5, undefined, 1.5e-7, 1e21].map(decimalsOf), [4, 0, 1, 0, 8, 0]);
});

test("all prices of a symbol have as many decimals as any of them ever had", () => {
  const decimals = new Decimals();
  assert.equal(decimals.learn([{ symbol: "EURUSD", entry_price: 1.0842 }, { symbol: "EURUSD", stop_loss: 1.08 }]), true);
  assert.equal(decimals.of({ symbol: "EURUSD" }), 4);
  assert.equal(decimals.learn([{ symbol: "EURUSD", current_price: 1.08421 }]), true);
  assert.equal(decimals.learn([{ symbol: "EURUSD", current_price: 1.1 }]), false);
  assert.equal(decimals.of({ symbol: "EURUSD" }), 5);
  assert.equal(decimals.of({ symbol: "XAUUSD" }), 2);
  assert.equal(decimals.learn([{ symbol: "SHIB", current_price: 0.000000123456 }]), true);
  assert.equal(decimals.learn([{ symbol: "SHIB", current_price: 0.0000001234567 }]), false);
  decimals.learn([{ symbol: "USDCHF", current_price: 1.0980000000000001 }]);
  assert.equal(decimals.of({ symbol: "USDCHF" }), 3);
});

test("durations are as exact as anybody cares", () => {
  const shown = [0, 340, 12_400, 61_000, 3_900_000, 200_000_000].map(duration);
  assert.deepEqual(shown, ["0.0 s", "0.3 s", "12 s", "1 min", "1 h 5 min", "2 d"]);
});

test("a countdown counts whole seconds and stops at zero", () => {
  assert.deepEqual([60_000, 59_001, 900, 0, -5_000].map(countdown), ["1:00", "1:00", "0:01", "0:00", "0:00"]);
});

test("positions are listed newest first, and of the same moment by ticket beyond what a number holds", () => {
  const at = (entry_time) => ({ entry_time });
  const entries = [
    ["9007199254740993", at("2026-01-05T09:00:00.000000Z")],
    ["9007199254740992", at("2026-01-05T09:00:00.000000Z")],
    ["5", at("2026-01-05T10:00:00.000000Z")],
  ];
  assert.deepEqual(entries.sort(newestFirst).map(([ticket]) => ticket), ["5", "9007199254740993", "9007199254740992"]);
});

test("history takes one sample a second, keeps gaps and forgets after ten minutes", () => {
  const history = new History();
  for (const [value, atMs] of [[1, 0], [2, 400], [null, 600], [3, 700], [4, 1_900]]) history.add(value, atMs);
  assert.deepEqual(history.samples.map(({ value }) => value), [2, null, 3, 4]);
  for (let second = 2; second < 900; second += 1) history.add(second, second * 1_000);
  assert.ok(history.samples.length <= 602);
  assert.ok(history.samples[0].atMs >= 298_000);
});

test("a sparkline is broken where the value was not known", () => {
  const samples = [[0, 1], [1_000, 2], [2_000, null], [8_000, 3]].map(([atMs, value]) => ({ atMs, value }));
  const { line, area, now } = sparkline(samples, 20_000);
  assert.equal(line.match(/M/g).length, 2);
  assert.equal(area.match(/Z/g).length, 2);
  assert.match(now, /h0$/);
  assert.equal(sparkline([{ atMs: 0, value: null }], 1_000), null);
});

test("a sparkline that ends in a gap has no newest point", () => {
  assert.equal(sparkline([{ atMs: 0, value: 1 }, { atMs: 1_000, value: null }], 2_000).now, "");
});

test("a sparkline stays in its box, and shows zero only where it is in sight", () => {
  for (const values of [[5, 5, 5], [-3, 4], [0, 0], [1e6, 1e6 + 0.01], [-1000, -900]]) {
    const samples = values.map((value, index) => ({ atMs: index * 1_000, value }));
    const { line, zero } = sparkline(samples, values.length * 1_000);
    const numbers = line.match(/-?[\d.]+/g).map(Number);
    const ys = numbers.filter((_, index) => index % 2 === 1);
    assert.ok(ys.every((y) => y >= 0 && y <= 100), `${values}: ${ys}`);
    const crosses = Math.min(...values) <= 0 && Math.max(...values) >= 0;
    assert.equal(zero !== null, crosses, String(values));
  }
});

const view = (fields) => ({
  state: { status: { source: "live", last_sync_at: "2026-01-05T09:00:00.000000Z" } },
  level: "connected",
  connection: { phase: "open", transport: "websocket" },
  online: true,
  ageMs: 300,
  databaseNowMs: Date.UTC(2026, 0, 5, 9, 0, 1),
  ...fields,
});

test("the one word on the connection", () => {
  assert.equal(wordFor(view({})), "Live");
  const silent = { status: { source: "silent", last_sync_at: "2026-01-05T08:57:00.000000Z" } };
  assert.equal(wordFor(view({ state: silent })), "Live link", "the link is live, the prices are not");
  assert.equal(wordFor(view({ state: { status: { source: "silent" } } })), "Live", "there are no prices");
  assert.equal(wordFor(view({ level: "stale" })), "Stale");
  assert.equal(wordFor(view({ level: "stale", connection: { phase: "waiting" } })), "Reconnecting");
  assert.equal(wordFor(view({ level: "blind", connection: { phase: "waiting" } })), "Blind");
  assert.equal(wordFor(view({ level: "blind", connection: { phase: "connecting" }, ageMs: null })), "Connecting");
  assert.equal(wordFor(view({ level: "blind", connection: { phase: "closed" } })), "Disconnected");
});

test("whatever takes the numbers their authority is put into words, and nothing else is", () => {
  assert.equal(sentence(view({})), "");
  assert.match(sentence(view({ level: "stale" })), /lost sight of its database.*from/);
  assert.match(sentence(view({ level: "stale", connection: { phase: "waiting" } })), /Reconnecting/);
  assert.match(sentence(view({ level: "blind", connection: { phase: "waiting" } })), /No connection.*from/);
  assert.match(sentence(view({ level: "stale", online: false })), /This device is offline.*from/);
  assert.equal(sentence(view({ online: false })), "", "what arrives is true, whatever the browser thinks of its network");
  const refused = { phase: "closed", ending: { reason: "revoked" } };
  assert.match(sentence(view({ level: "blind", connection: refused })), /revoked/);
  assert.match(sentence(view({ state: { status: { source: "silent", last_sync_at: "2026-01-05T08:00:00.000000Z" } } })), /silent/);
  const off = (seconds) => view({ state: { status: { source: "live", clock_offset_seconds: seconds } } });
  assert.match(sentence(off(-10800)), /clock is 3 h ahead: its rows count from their arrival on/);
  assert.match(sentence(off(-10799)), /clock is 3 h ahead/);
  assert.match(sentence(off(7260)), /clock is 2 h 1 min behind: .* too early/);
  assert.match(sentence(view({ state: { status: { source: "silent", recorded: false } } })), /Nothing was ever recorded/);
  assert.equal(sentence(view({ level: "blind", connection: { phase: "connecting" }, ageMs: null })), "");
  assert.match(sentence(view({ level: "blind", connection: { phase: "waiting" }, ageMs: null })), /cannot be reached/);
});

test("a platform whose clock is behind synced later than its rows say", () => {
  const status = { source: "silent", last_sync_at: "2026-01-05T07:00:00.000000Z", clock_offset_seconds: 7200 };
  assert.equal(silentForMs(view({ state: { status } })), 1_000);
  assert.equal(silentForMs(view({ state: { status: { ...status, clock_offset_seconds: -7200 } } })), 7_201_000);
  const stepped = { ...status, last_sync_at: "2026-01-05T08:59:00.000000Z", counts_at_arrival: true };
  assert.equal(silentForMs(view({ state: { status: stepped } })), 61_000, "these times are those of arrival");
  assert.equal(silentForMs(view({})), null);
});

/** A tab's storage, an address with scripted answers (none without `answers`), and a user who pastes the next token. */
function tokensWith({ answers = null, pasted = [] }) {
  const kept = new Map();
  const storage = {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => kept.set(key, value),
    removeItem: (key) => kept.delete(key),
  };
  const asked = [];
  const ask = async (problem) => {
    asked.push(problem);
    return pasted.shift();
  };
  const fetch = async (url, options) => {
    assert.deepEqual([url, options.credentials, options.redirect], ["session/token", "same-origin", "error"]);
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer instanceof Error) throw answer;
    return new Response(typeof answer === "string" ? JSON.stringify({ token: answer }) : null, {
      status: typeof answer === "string" ? 200 : answer,
    });
  };
  return { tokens: new Tokens({ url: answers ? "session/token" : "", ask, storage, fetch }), kept, asked };
}

test("where an address hands tokens out, nobody is asked, and each connect has a new one", async () => {
  const { tokens, asked } = tokensWith({ answers: ["one", "two"] });
  assert.equal(await tokens.next("connect"), "one");
  assert.equal(await tokens.next("connect"), "two");
  assert.deepEqual(asked, []);
  assert.equal(tokens.pasted, false);
});

test("an address that is away for a moment does not bring up a form, and gives a new token when it is back", async () => {
  const { tokens, asked } = tokensWith({ answers: ["one", new Error("refused"), 502, "two"] });
  await tokens.next("connect");
  assert.equal(await tokens.next("connect"), "one");
  assert.equal(await tokens.next("expiring"), "one");
  assert.equal(await tokens.next("connect"), "two");
  assert.deepEqual(asked, []);
});

test("an address that cannot be reached at first is tried again, and nobody is asked", async () => {
  const { tokens, asked } = tokensWith({ answers: [new Error("refused"), 502, "one"] });
  await assert.rejects(tokens.next("connect"));
  await assert.rejects(tokens.next("connect"));
  assert.equal(await tokens.next("connect"), "one");
  assert.deepEqual(asked, []);
});

test("where nobody is signed in there is no token, and nobody is asked", async () => {
  const { tokens, asked } = tokensWith({ answers: ["one", 401, 403] });
  await tokens.next("connect");
  assert.equal(await tokens.next("expiring"), null);
  assert.equal(tokens.account, null);
  assert.equal(await tokens.next("connect"), null);
  assert.deepEqual(asked, []);
});

test("elsewhere somebody is asked once, and again only when the token is about to end", async () => {
  const { tokens, asked, kept } = tokensWith({ pasted: [{ token: "a" }, { token: "b" }] });
  assert.equal(await tokens.next("connect"), "a");
  assert.equal(await tokens.next("connect"), "a");
  assert.equal(await tokens.next("expiring"), "b");
  assert.equal(asked.length, 2);
  assert.equal(kept.size, 0);
  assert.ok(tokens.pasted);
});

test("a pasted token is kept in the tab only when that was asked for, and forgotten on leaving", async () => {
  const { tokens, kept } = tokensWith({ pasted: [{ token: "a", keep: true }] });
  await tokens.next("connect");
  assert.deepEqual([...kept.values()], ["a"]);
  tokens.forget();
  assert.equal(kept.size, 0);
});

test("a connection that is lost while somebody is asked waits for the same answer", async () => {
  let answer;
  const { tokens, asked } = tokensWith({ pasted: [{ token: "a" }, new Promise((resolve) => (answer = resolve))] });
  await tokens.next("connect");
  const [expiring, connect] = [tokens.next("expiring"), tokens.next("connect")];
  await new Promise((resolve) => setImmediate(resolve));
  answer({ token: "b" });
  assert.deepEqual(await Promise.all([expiring, connect]), ["b", "b"]);
  assert.equal(asked.length, 2);
});

test("what a token says of itself is read, and a text that is none says nothing", () => {
  const payload = Buffer.from(JSON.stringify({ sub: "3f2a" })).toString("base64url");
  assert.deepEqual(claimsOf(`x.${payload}.y`), { sub: "3f2a" });
  for (const text of ["", "a", "a.b.c", "..", "a.bnVsbA.c"]) assert.equal(claimsOf(text).sub, undefined);
});

test("a token that the server refused is asked for again, with the server's reason", async () => {
  const { tokens, asked, kept } = tokensWith({ pasted: [{ token: "a", keep: true }, { token: "b" }] });
  assert.equal(await tokens.next("connect"), "a");
  tokens.reject("The token has expired.");
  assert.equal(kept.size, 0);
  assert.equal(await tokens.next("connect"), "b");
  assert.equal(await tokens.next("connect"), "b");
  assert.deepEqual(asked, ["", "The token has expired."]);
});

test("a token that an address handed out is not forgotten when it was refused", async () => {
  const { tokens, asked } = tokensWith({ answers: ["one", new Error("refused")] });
  await tokens.next("connect");
  tokens.reject("The token has expired.");
  assert.equal(await tokens.next("connect"), "one");
  assert.deepEqual(asked, []);
});

const DRAWDOWN = {
  alert_type: "critical",
  should_close_all: true,
  current_drawdown_pct: 21.5,
  critical_pct: 20,
  minimum_equity: 100,
  currency: "USD",
  liquidation_at: "2026-01-05T09:00:44.000000Z",
};
const GAP = { symbol: "XAUUSD", condition_type: "price_gap", price_gap_pct: 12.8, should_close_positions: true };
const guarded = (guards) => view({ state: { guards: { any_positions_should_close: true, alerts: {}, drawdown: {}, ...guards } } });

test("a critical drawdown is the demand to close everything, with the time that is left", () => {
  assert.deepEqual(alarmOf(guarded({ drawdown: DRAWDOWN })), {
    demand: "Close all positions",
    reason: "drawdown 21.50 %, limit 20 %",
    time: "0:43 left",
    advice: "Close at your broker: Guardwire closes nothing itself.",
    title: "⚠ 0:43 CLOSE ALL",
  });
  const overdue = alarmOf(guarded({ drawdown: { ...DRAWDOWN, liquidation_at: "2026-01-05T09:00:00.000000Z" } }));
  assert.match(overdue.time, /^due since \d\d:00:00$/);
  assert.equal(overdue.title, "⚠ OVERDUE CLOSE ALL");
  assert.match(overdue.advice, /^The time is over\. Close now/);
});

test("equity below the minimum is named as the reason", () => {
  const alarm = alarmOf(guarded({ drawdown: { ...DRAWDOWN, current_drawdown_pct: 4 } }));
  assert.equal(alarm.reason, "equity below 100.00 USD");
});

test("a critical market condition is the demand to close its symbol, and an unnamed one to close all", () => {
  const alerts = { a: GAP, b: { ...GAP, symbol: "EURUSD", should_close_positions: false } };
  const alarm = alarmOf(guarded({ alerts }));
  assert.equal(alarm.demand, "Close XAUUSD");
  assert.equal(alarm.reason, "XAUUSD: price gap 12.80 %");
  assert.equal(alarm.time, "");
  assert.equal(alarm.title, "⚠ CLOSE POSITIONS");
  assert.equal(alarmOf(guarded({ alerts: { a: { ...GAP, symbol: "*" } } })).demand, "Close all positions");
});

test("without a demand of the guards there is no alarm", () => {
  assert.equal(alarmOf(view({})), null);
  assert.equal(alarmOf(guarded({ any_positions_should_close: false })), null);
});

const ALERT = {
  generation: 1, kind: "drawdown", severity: "critical", subject: "", first_raised_at: "2026-01-05T08:59:00.000000Z",
  raised_at: "2026-01-05T08:59:40.000000Z", deadline_at: "2026-01-05T09:00:10.000000Z", occurrences: 1, level: 0,
};
const NOBODY = { armed: true, status: "unattended", since: "2026-01-05T08:58:00.000000Z", attendants: {} };
const alerted = (open, attendance = NOBODY) => ({ alerts: { unacknowledged: 1, open: { a: open }, attendance } });

test("the deadline of an alert that comes and goes is the first one", () => {
  const guards = { any_positions_should_close: true, alerts: {}, drawdown: DRAWDOWN };
  const alarm = alarmOf(view({ state: { guards, ...alerted(ALERT) } }));
  assert.equal(alarm.time, "0:09 left");
  assert.equal(alarmOf(view({ state: { guards, ...alerted({ ...ALERT, resolved_at: ALERT.raised_at }) } })).time, "0:43 left");
});

test("an acknowledged demand stands, and names who answered", () => {
  const guards = { any_positions_should_close: true, alerts: {}, drawdown: DRAWDOWN };
  const answered = { ...ALERT, acknowledged_by: "closer-1", acknowledged_at: ALERT.raised_at, hold_until: "2026-01-05T09:00:40.000000Z" };
  const { demand, advice } = alarmOf(view({ state: { guards, ...alerted(answered) } }));
  assert.equal(demand, "Close all positions");
  assert.match(advice, /^closer-1 answered at .*:59:40\. See that the positions close by .*:00:40\.$/);
});

test("an account that no bot attends is an alarm until somebody answers, and so is a kind that is not known", () => {
  const unattended = { ...ALERT, kind: "unattended", deadline_at: undefined };
  assert.equal(alarmOf(view({ state: alerted(unattended) })).demand, "No bot attends this account");
  assert.equal(alarmOf(view({ state: alerted({ ...unattended, acknowledged_at: ALERT.raised_at }) })), null);
  assert.equal(alarmOf(view({ state: alerted({ ...unattended, severity: "warning" }) })), null);
  assert.equal(alarmOf(view({ state: alerted({ ...ALERT, kind: "moon", subject: "full" }) })).demand, "Alert: moon");
});

test("a demand concerns the positions of its symbol, whatever the broker calls it", () => {
  const demand = demandOf({ any_positions_should_close: true, alerts: { a: GAP }, drawdown: {} });
  assert.ok(concerns(demand, { symbol: "xauusd" }));
  assert.ok(concerns(demand, { symbol: "XAUUSD.r", instrument: "XAUUSD" }));
  assert.ok(!concerns(demand, { symbol: "EURUSD" }));
  assert.ok(!concerns(demand, {}));
  assert.ok(!concerns(null, { symbol: "XAUUSD" }));
});

test("an alert says what it is and where it stands", () => {
  const nowMs = Date.UTC(2026, 0, 5, 9, 0, 1);
  assert.equal(titleOf({ ...ALERT, observed: 21.5, limit: 20 }), "Drawdown 21.50 %, limit 20 %");
  assert.equal(titleOf({ ...ALERT, kind: "market", symbol: "*", condition_type: "price_gap", observed: 12 }), "All symbols: price gap 12.00 %");
  assert.equal(titleOf({ ...ALERT, kind: "moon", subject: "full" }), "moon full");
  assert.match(standingOf({ ...ALERT, occurrences: 3, level: 4 }, nowMs), /3 times since.*people notified/);
  const held = { ...ALERT, acknowledged_by: "b", acknowledged_at: ALERT.raised_at, action: "acting", hold_until: "2026-01-05T09:00:31.000000Z" };
  assert.match(standingOf(held, nowMs), /b said that it acts .* escalates in 0:30/);
  assert.match(standingOf({ ...ALERT, resolved_at: ALERT.raised_at }, nowMs), /until somebody acknowledges it/);
});

test("who attends is said in a sentence", () => {
  const nowMs = Date.UTC(2026, 0, 5, 9, 0, 0);
  const one = { "closer-1": { since: ALERT.raised_at } };
  assert.equal(attendanceOf({ armed: true, status: "attended", attendants: one }, nowMs), "Armed. Attended by closer-1.");
  assert.match(attendanceOf({ ...NOBODY, grace_until: "2026-01-05T09:00:43.000000Z" }, nowMs), /raised in 0:43/);
  assert.match(attendanceOf(NOBODY, nowMs), /no bot attends since .*:58:00/);
  assert.match(attendanceOf({ armed: false, status: "disarmed", attendants: one }, nowMs), /^Not armed: closer-1 attends/);
  assert.match(attendanceOf({ armed: false, status: "disarmed", attendants: {} }, nowMs), /^Not armed/);
});

test("a sentence that ends in a full stop gets no second one", () => {
  const refused = (reason) => view({ level: "blind", ageMs: null, connection: { phase: "closed", ending: { reason } } });
  assert.equal(sentence(refused("The token has expired.")), "Disconnected: The token has expired.");
  assert.equal(sentence(refused("HTTP 403")), "Disconnected: HTTP 403.");
  assert.equal(sentence(refused("")), "Disconnected: closed.");
});

test("the page says when a sign-in is about to end, and when it has ended", () => {
  assert.equal(sentence(view({ isAsking: true })), "Your sign-in ends in a minute.");
  assert.match(sentence(view({ isAsking: true, level: "stale", connection: { phase: "connecting" } })), /has ended.*from/);
});
