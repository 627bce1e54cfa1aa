import assert from "node:assert/strict";
import { test } from "node:test";

import { settled } from "./fake_clock.js";
import { Play, heartbeat, snapshot, update, welcome } from "./played_server.js";

test("a first connect asks for a token, says hello with it, and mirrors what comes", async () => {
  const play = await new Play().begun({ guards: { alerts: {} } });
  assert.deepEqual(play.tokens, ["connect"]);
  assert.equal(play.link.options.token, "token-1");
  assert.equal(play.link.options.resume, null);
  assert.deepEqual(play.link.options.channels, ["status", "positions", "guards"]);
  assert.deepEqual(play.account.state, { guards: { alerts: {} } });
  assert.equal(play.account.freshness, "connected");
  assert.deepEqual(play.seen.freshness, ["connected"]);
  assert.deepEqual(play.seen.connection.map(({ phase }) => phase), ["connecting", "open"]);
});

test("a welcome alone makes nothing fresh", async () => {
  const play = new Play();
  await settled();
  await play.link.answer(welcome());
  assert.equal(play.account.freshness, "blind");
  assert.equal(play.account.ageMs, null);
});

test("changes are told by path, with what is now and what was", async () => {
  const play = await new Play().begun({ positions: { open: { 11: { volume: 1 }, 12: { volume: 2 } } } });
  const calls = [];
  play.account.onChange("positions.open.*", (path, now, old) => calls.push([path.join("/"), now, old]));
  play.account.onChange("positions.open.*.volume", (path, now, old) => calls.push([path.join("/"), now, old]));
  await play.link.answer(update(100, 101, { positions: { open: { 11: { volume: 5 }, 12: null, 13: { volume: 3 } } } }));
  // The order of several changed keys is not defined.
  assert.deepEqual(calls.sort(), [
    ["positions/open/11", { volume: 5 }, { volume: 1 }],
    ["positions/open/11/volume", 5, 1],
    ["positions/open/12", undefined, { volume: 2 }],
    ["positions/open/12/volume", undefined, 2],
    ["positions/open/13", { volume: 3 }, undefined],
    ["positions/open/13/volume", 3, undefined],
  ]);
});

test("a path given as a list reaches keys that hold dots, and a stopped listener hears nothing", async () => {
  const play = await new Play().begun({ guards: { alerts: {} } });
  const heard = [];
  const stop = play.account.onChange(["guards", "alerts", "US30.cash:price_gap"], (_, now) => heard.push(now));
  await play.link.answer(update(100, 101, { guards: { alerts: { "US30.cash:price_gap": { alert_type: "critical" } } } }));
  stop();
  await play.link.answer(update(101, 102, { guards: { alerts: { "US30.cash:price_gap": null } } }));
  assert.deepEqual(heard, [{ alert_type: "critical" }]);
});

test("a snapshot tells only what differs from before", async () => {
  const play = await new Play().begun({ guards: { alerts: {} }, status: { total_syncs: 1 } });
  const heard = [];
  play.account.onChange("*", (path) => heard.push(path[0]));
  await play.link.answer(snapshot(110, { guards: { alerts: {} }, status: { total_syncs: 2 } }));
  assert.deepEqual(heard, ["status"]);
});

test("after a gap one resync is sent, again only when no snapshot comes, and nothing is called fresh meanwhile", async () => {
  const play = await new Play().begun();
  await play.link.answer(update(105, 106, {}), update(106, 107, {}), heartbeat(107));
  assert.deepEqual(play.link.sent, [{ type: "resync" }]);
  assert.equal(play.account.freshness, "stale");
  await play.clock.pass(5_500);
  assert.equal(play.link.sent.length, 2);
  await play.link.answer(snapshot(107, { guards: { alerts: {} } }));
  assert.equal(play.account.freshness, "connected");
});

test("a server that says it is blind makes the state stale, with its true age", async () => {
  const play = await new Play().begun();
  await play.clock.pass(3_000);
  await play.link.answer(heartbeat(100, { stale: true, age_ms: 3_000 }));
  assert.equal(play.account.freshness, "stale");
  await play.clock.pass(1_000);
  assert.equal(play.account.ageMs, 4_000);
  await play.link.answer(heartbeat(100));
  assert.equal(play.account.freshness, "connected");
});

test("a lost link is stale at once, blind after fifteen seconds, and resumed from where it was", async () => {
  const play = await new Play().begun();
  await play.clock.pass(1_000);
  await play.link.end();
  assert.equal(play.account.freshness, "stale");
  assert.equal(play.account.connection.phase, "waiting");
  await play.clock.pass(600);
  assert.equal(play.links.length, 2);
  assert.deepEqual(play.link.options.resume, { epoch: 8, revision: 100, channels: ["guards"] });
  await play.clock.pass(14_000);
  assert.equal(play.account.freshness, "blind");
  await play.link.answer(welcome({ resumed: true }), update(100, 103, { guards: { system_status: "warning" } }));
  assert.deepEqual(play.account.state, { guards: { alerts: {}, system_status: "warning" } });
  assert.deepEqual(play.seen.freshness, ["connected", "stale", "blind", "connected"]);
});

test("a link that falls silent is given up after fifteen seconds", async () => {
  const play = await new Play().begun();
  await play.clock.pass(14_000);
  assert.equal(play.link.closed, false);
  await play.clock.pass(1_500);
  assert.equal(play.links[0].closed, true);
  assert.equal(play.account.freshness, "blind");
  await play.clock.pass(600);
  assert.equal(play.links.length, 2);
});

test("attempts come ever more rarely, up to thirty seconds apart", async () => {
  const play = new Play({ transports: ["websocket"] });
  const delays = [];
  for (let attempt = 0; attempt < 10; attempt += 1) {
    await settled();
    await play.link.end();
    const { retryInMs } = play.account.connection;
    delays.push(retryInMs);
    await play.clock.pass(retryInMs);
  }
  assert.deepEqual(delays.map((delay) => Math.round(delay / 500) * 500), [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000, 30000]);
});

test("a link that was good for a while forgets earlier failures, one that is dropped at once does not", async () => {
  const play = new Play({ transports: ["websocket"] });
  const delayAfter = async (livedMs) => {
    await settled();
    await play.link.answer(welcome(), snapshot(100, {}));
    await play.clock.pass(livedMs);
    await play.link.end();
    const { retryInMs } = play.account.connection;
    await play.clock.pass(retryInMs);
    return Math.round(retryInMs / 500) * 500;
  };
  assert.deepEqual([await delayAfter(0), await delayAfter(0), await delayAfter(0)], [500, 1000, 2000]);
  assert.equal(await delayAfter(6_000), 500);
});

test("the wait that a close reason or an error frame asks for is honoured", async () => {
  const play = await new Play().begun();
  await play.link.end({ code: 1012, retryAfterMs: 4_000 });
  assert.ok(play.account.connection.retryInMs >= 4_000);
  await play.clock.pass(4_600);
  await play.link.answer(welcome(), { type: "error", code: "overloaded", message: "later", retry: true, retry_after_ms: 9_000 });
  assert.deepEqual(play.seen.problem, [{ code: "overloaded", message: "later" }]);
  await play.link.end();
  assert.ok(play.account.connection.retryInMs >= 9_000);
});

test("a hint without measure does not park the client for ever", async () => {
  const play = await new Play().begun();
  await play.link.end({ code: 1013, retryAfterMs: 1e12 });
  assert.ok(play.account.connection.retryInMs <= 301_000);
});

test("a refusal for good ends it, blind and without another attempt", async () => {
  const play = await new Play().begun();
  await play.link.end({ verdict: "refused", code: 4403, reason: "revoked" });
  assert.equal(play.account.connection.phase, "closed");
  assert.equal(play.account.connection.ending.code, 4403);
  assert.equal(play.account.freshness, "blind");
  await play.clock.pass(120_000);
  assert.equal(play.links.length, 1);
});

test("an expired token is replaced by a new one, and a second refusal in a row is final", async () => {
  const play = await new Play().begun();
  await play.link.end({ verdict: "token", code: 4001 });
  await play.clock.pass(600);
  assert.equal(play.link.options.token, "token-2");
  await play.link.end({ verdict: "token", code: 401 });
  assert.equal(play.account.connection.phase, "closed");
});

test("tokens that expire one after another, each after it was good, are replaced for ever", async () => {
  const play = await new Play().begun();
  for (let round = 0; round < 5; round += 1) {
    await play.link.end({ verdict: "token", code: 4001 });
    await play.clock.pass(30_000);
    await play.link.answer(welcome({ resumed: true }));
  }
  assert.equal(play.account.connection.phase, "open");
});

test("a token that is about to expire is replaced in band", async () => {
  const play = await new Play().begun();
  await play.link.answer({ type: "auth_required", expires_at: 1_767_610_800 });
  assert.deepEqual(play.tokens, ["connect", "expiring"]);
  assert.deepEqual(play.link.sent, [{ type: "auth", token: "token-2" }]);
});

test("a token callback that fails is told of and tried again, one that gives nothing ends it", async () => {
  const failing = new Play({
    token: (_, attempt) => {
      if (attempt === 1) throw new Error("identity provider down");
      return "good";
    },
  });
  await settled();
  assert.equal(failing.seen.problem[0].code, "token");
  await failing.clock.pass(600);
  assert.equal(failing.link.options.token, "good");
  assert.equal(failing.link.name, "websocket");

  const empty = new Play({ token: () => null });
  await settled();
  assert.equal(empty.account.connection.phase, "closed");
  assert.equal(empty.links.length, 0);
});

test("a token that arrives after the client was closed opens nothing", async () => {
  let give;
  const play = new Play({ token: () => new Promise((resolve) => (give = resolve)) });
  await settled();
  play.account.close();
  give("late");
  await settled();
  assert.equal(play.links.length, 0);
});

test("where WebSockets are blocked it falls back to an event stream, then to polling, then begins again", async () => {
  const play = new Play();
  const names = [];
  for (let attempt = 0; attempt < 6; attempt += 1) {
    await settled();
    names.push(play.link.name);
    await play.link.end();
    await play.clock.pass(play.account.connection.retryInMs);
  }
  assert.deepEqual(names, ["websocket", "websocket", "sse", "poll", "websocket", "websocket"]);
});

test("a WebSocket that opens and then stays mute is as good as blocked", async () => {
  const play = new Play();
  await play.clock.pass(10_500);
  assert.equal(play.links[0].closed, true);
  await play.clock.pass(12_000);
  await play.clock.pass(1_000);
  assert.deepEqual(play.links.map(({ name }) => name), ["websocket", "websocket", "sse"]);
});

test("a server that answers with a close code of its own is not taken for a blocked transport", async () => {
  const play = new Play();
  for (let attempt = 0; attempt < 3; attempt += 1) {
    await settled();
    await play.link.end({ code: 4409, retryAfterMs: 1_000 });
    await play.clock.pass(play.account.connection.retryInMs);
  }
  assert.deepEqual(play.links.map(({ name }) => name), ["websocket", "websocket", "websocket", "websocket"]);
});

test("from a fallback it comes back to the WebSocket once that answers, without a gap between them", async () => {
  const play = await fallenBack();
  const stream = play.link;
  await play.clock.pass(5_100);
  const probe = play.link;
  assert.equal(probe.name, "websocket");
  assert.equal(stream.closed, false);
  await stream.answer(heartbeat(100));
  assert.equal(play.account.freshness, "connected");
  await probe.answer(welcome({ resumed: true }), update(100, 101, { guards: { system_status: "warning" } }));
  assert.equal(stream.closed, true);
  assert.equal(play.account.connection.transport, "websocket");
  assert.equal(play.account.state.guards.system_status, "warning");
  assert.equal(play.account.freshness, "connected");
});

test("asked to move, it opens a second WebSocket, and goes over once that has resumed", async () => {
  const play = await new Play().begun();
  const first = play.link;
  await first.answer({ type: "move", within_ms: 4_000 });
  await play.clock.pass(3_900);
  assert.equal(play.links.length, 1);
  await play.clock.pass(200);
  const second = play.link;
  assert.notEqual(second, first);
  assert.deepEqual(second.options.resume, { epoch: 8, revision: 100, channels: ["guards"] });
  await first.answer(heartbeat(100));
  assert.equal(first.closed, false);
  await second.answer(welcome({ resumed: true }));
  assert.equal(first.closed, true);
  await second.answer(update(100, 101, { guards: { system_status: "warning" } }));
  assert.equal(play.account.state.guards.system_status, "warning");
  assert.deepEqual(new Set(play.seen.freshness), new Set(["connected"]));
});

test("a move in whose midst the account changes is tried again, five times at most", async () => {
  const play = await new Play().begun();
  const first = play.link;
  await first.answer({ type: "move", within_ms: 4_000 });
  for (let revision = 100; revision < 105; revision += 1) {
    await play.clock.pass(4_000);
    const second = play.link;
    assert.notEqual(second, first);
    await first.answer(update(revision, revision + 1, {}));
    await second.answer(welcome({ resumed: true }));
    assert.equal(second.closed, true);
    assert.equal(first.closed, false);
  }
  await play.clock.pass(8_000);
  assert.equal(play.links.length, 6);
  assert.equal(play.account.freshness, "connected");
});

test("a move that another node does not answer, refuses or cannot resume leaves the client where it is", async () => {
  for (const answered of [() => {}, (link) => link.end({ code: 4029 }), (link) => link.answer(welcome(), snapshot(100, {}))]) {
    const play = await new Play().begun();
    const first = play.link;
    await first.answer({ type: "move", within_ms: 1_000 });
    for (let second = 0; second < 80; second += 1) {
      const before = play.links.length;
      await play.clock.pass(1_000);
      await first.answer(heartbeat(100));
      if (play.links.length > before) await answered(play.link);
    }
    assert.equal(play.links.length, 6);
    assert.equal(first.closed, false);
    assert.equal(play.account.freshness, "connected");
  }
});

test("a WebSocket that stays blocked is tried ever more rarely, and the fallback goes on", async () => {
  const play = await fallenBack();
  const stream = play.link;
  const probesAt = [];
  for (let second = 0; second < 120; second += 1) {
    const before = play.links.length;
    await play.clock.pass(1_000);
    await stream.answer(heartbeat(100));
    if (play.links.length > before) {
      probesAt.push(second + 1);
      await play.link.end();
    }
  }
  assert.deepEqual(probesAt, [5, 20, 65]);
  assert.equal(stream.closed, false);
});

test("over a transport without a way up, a gap is mended by a new link that resumes nothing", async () => {
  const play = await fallenBack();
  await play.clock.pass(2_000);
  await play.link.answer(update(104, 105, {}));
  assert.equal(play.link.name, "sse");
  assert.equal(play.link.options.resume, null);
  await play.link.answer(welcome(), snapshot(105, { guards: { alerts: {} } }));
  assert.equal(play.account.freshness, "connected");
});

test("a server that provokes one gap after another over such a transport is met with pauses", async () => {
  const play = await fallenBack();
  const before = play.links.length;
  const provoking = welcome({ resumed: true, epoch: 99 });
  for (let round = 0; round < 50; round += 1) await play.link.answer(provoking);
  assert.ok(play.links.length - before <= 2, `${play.links.length - before} links at once`);
});

test("a machine that slept believes nothing that was buffered meanwhile: it is blind, reconnects and resumes", async () => {
  const play = await new Play().begun();
  const before = play.link;
  play.clock.nowMs += 600_000;
  await before.answer(update(100, 101, { guards: { system_status: "healthy" } }));
  assert.equal(play.account.freshness, "blind");
  assert.equal(before.closed, true);
  assert.equal(play.account.state.guards.system_status, undefined);
  await settled();
  assert.equal(play.links.length, 2);
  assert.equal(play.link.options.resume.revision, 100);
});

test("a machine that slept notices it by its own timers too", async () => {
  const play = await new Play().begun();
  await play.clock.sleep(600_000);
  assert.deepEqual(play.seen.freshness, ["connected", "blind"]);
  assert.equal(play.links[0].closed, true);
  assert.equal(play.links.length, 2);
});

test("channels may be added and dropped while it runs", async () => {
  const play = await new Play({ channels: ["guards"] }).begun();
  await play.link.answer(welcome({ channels: ["guards"] }));
  play.account.subscribe("positions");
  play.account.unsubscribe("guards");
  assert.deepEqual(play.link.sent.slice(-2), [
    { type: "subscribe", channels: ["positions"] },
    { type: "unsubscribe", channels: ["guards"] },
  ]);
});

test("channels chosen while there is no link are told after the next welcome", async () => {
  const play = new Play({ channels: ["guards"] });
  await settled();
  play.account.subscribe("positions");
  assert.deepEqual(play.link.sent, []);
  await play.link.answer(welcome({ channels: ["guards"] }));
  assert.deepEqual(play.link.sent, [{ type: "subscribe", channels: ["positions"] }]);
});

test("a channel dropped while there is no link is still named as held, so that its removal comes", async () => {
  const play = await new Play().begun({ guards: {}, positions: {} });
  await play.link.end();
  play.account.unsubscribe("guards");
  await play.clock.pass(600);
  assert.deepEqual(play.link.options.channels, ["status", "positions"]);
  assert.deepEqual(play.link.options.resume.channels, ["guards", "positions"]);
});

test("a listener that throws is reported and keeps nothing from the others", async (t) => {
  const reported = [];
  // Where it would surface as an uncaught error, which would end this test.
  t.mock.method(globalThis, "queueMicrotask", (task) => {
    Promise.resolve().then(task).catch((error) => reported.push(error.message));
  });
  const play = new Play();
  const heard = [];
  play.account.on("change", () => {
    throw new Error("mine");
  });
  play.account.on("change", (state) => heard.push(state));
  await play.begun();
  await settled();
  assert.equal(heard.length, 1);
  assert.deepEqual(reported, ["mine"]);
});

test("a closed client says so, is blind and opens nothing more", async () => {
  const play = await new Play().begun();
  play.account.close();
  await play.clock.pass(60_000);
  assert.equal(play.account.freshness, "blind");
  assert.equal(play.account.connection.phase, "closed");
  assert.equal(play.links.length, 1);
  assert.equal(play.links[0].closed, true);
});

/** A client that was let through only as an event stream. */
async function fallenBack() {
  const play = new Play();
  for (let attempt = 0; attempt < 2; attempt += 1) {
    await settled();
    await play.link.end();
    await play.clock.pass(play.account.connection.retryInMs);
  }
  assert.equal(play.link.name, "sse");
  await play.link.answer(welcome(), snapshot(100, { guards: { alerts: {} } }));
  return play;
}

test("a client that cannot connect warns of the first failure, and then once a minute", async () => {
  const play = new Play({ transports: ["websocket"] });
  await settled();
  await play.link.end({ reason: "no such host" });
  assert.deepEqual(play.warnings, ["Guardwire: no connection (1006 no such host)"]);
  for (let second = 0; second < 50; second += 1) {
    await play.clock.pass(1_000);
    await play.link.end({ reason: "no such host" });
  }
  assert.equal(play.warnings.length, 1);
  for (let second = 0; second < 30; second += 1) {
    await play.clock.pass(1_000);
    await play.link.end({ reason: "no such host" });
  }
  assert.equal(play.warnings.length, 2);
});

test("a client that is not answered warns within 10 s", async () => {
  const play = new Play({ transports: ["websocket"] });
  await settled();
  for (let second = 0; second < 9; second += 1) await play.clock.pass(1_000);
  assert.deepEqual(play.warnings, ["Guardwire: not connected after 8 s: the server has not answered yet"]);
});

test("a client that was connected and comes back at once warns of nothing", async () => {
  const play = await new Play().begun();
  await play.link.end({ reason: "the server is restarting" });
  await play.clock.pass(1_500);
  await play.link.answer(welcome(), snapshot(100, {}));
  assert.deepEqual(play.warnings, []);
});
