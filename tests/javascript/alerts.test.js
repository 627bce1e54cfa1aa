import assert from "node:assert/strict";
import { test } from "node:test";

import { AlertReader, Turns } from "../../static/client/turns.js";
import { settled } from "./fake_clock.js";
import { Play, snapshot, update, welcome } from "./played_server.js";
import { vectors } from "./vectors.js";

const OFFERS = { channels: ["status", "positions", "guards", "alerts"], frames: ["ack", "snooze", "attend", "leave"] };
const USUAL = { severity: "critical", raised_at: "2026-01-05T09:00:01.000000Z", level: 0 };

for (const { name, reader: own, steps } of vectors("alerts").readers) {
  test(name, () => {
    const turns = new Turns();
    const reader = new AlertReader(turns, () => own);
    let open = {};
    for (const step of steps) {
      if (step.open) {
        open = Object.fromEntries(Object.entries(step.open).map(([id, alert]) => [id, { ...USUAL, ...alert }]));
        turns.receive(open, { epoch: step.epoch ?? 8, revision: step.revision });
      }
      for (const [id, generation] of Object.entries(step.acknowledged ?? {})) {
        turns.noteAcknowledged(id, generation, step.at_revision);
      }
      if (!step.taken) continue;
      const taken = [];
      for (let found = reader.take(open); found; found = reader.take(open)) taken.push(found[0]);
      assert.deepEqual(taken, step.taken);
    }
  });
}

/** A client that follows guards and alerts of a node that offers them. */
async function following(open, options = {}) {
  const play = new Play({ channels: ["guards", "alerts"], ...options });
  await settled();
  await play.link.answer(welcome({ channels: ["guards"], offers: OFFERS }), snapshot(100, { guards: {} }));
  await play.link.answer(update(100, 100, { alerts: { open } }));
  return play;
}

const alert = (fields = {}) => ({ ...USUAL, generation: 1, kind: "drawdown", ...fields });

test("alerts are asked for only after the node has offered them", async () => {
  const play = await following({ a: alert() });
  assert.deepEqual(play.link.options.channels, ["guards"]);
  assert.deepEqual(play.link.sent, [{ type: "subscribe", channels: ["alerts"] }]);
  assert.deepEqual(Object.keys(play.account.state.alerts.open), ["a"]);
});

test("an older node is asked for nothing new, and one warning says so", async () => {
  const play = new Play({ channels: ["guards", "alerts"] });
  await settled();
  await play.link.answer(welcome({ channels: ["guards"] }), snapshot(100, { guards: {} }));
  play.account.attend("closer-1").beat();
  void play.account.alerts().next();
  void play.account.alerts().next();
  await settled();
  assert.deepEqual(play.link.sent, []);
  assert.equal(play.warnings.filter((sentence) => sentence.includes("no alerts")).length, 1);
});

test("a reconnect resumes the old channels, and keeps the alerts in doubt until they come", async () => {
  const play = await following({ a: alert() });
  await play.link.end();
  await play.clock.pass(1_000);
  assert.deepEqual(play.link.options.resume, { epoch: 8, revision: 100, channels: ["guards"] });
  await play.link.answer(welcome({ channels: ["guards"], offers: OFFERS, resumed: true }), update(100, 101, { guards: { x: 1 } }));
  assert.deepEqual(Object.keys(play.account.state.alerts.open), ["a"]);
  assert.equal(play.account.fresh, false);
  await play.link.answer(update(101, 102, { alerts: { open: { b: alert() } } }));
  assert.deepEqual(Object.keys(play.account.state.alerts.open), ["b"]);
  assert.equal(play.account.fresh, true);
});

test("acting acknowledges before and after, and again over a new link until it is confirmed", async () => {
  const play = await following({ a: alert() });
  play.account.attend("closer-1");
  const { value: found } = await play.account.alerts().next();
  await found.acting(() => {});
  const acks = () => play.link.sent.filter(({ type }) => type === "ack");
  assert.deepEqual(acks(), [
    { type: "ack", alerts: { a: 1 }, as: "closer-1", action: "acting" },
    { type: "ack", alerts: { a: 1 }, as: "closer-1", action: "done" },
  ]);
  await play.link.end();
  await play.clock.pass(1_000);
  await play.link.answer(welcome({ channels: ["guards"], offers: OFFERS }), snapshot(140, { guards: {}, alerts: { open: { a: alert() } } }));
  assert.deepEqual(acks().map(({ action }) => action), ["done"]);
  await play.link.answer({ type: "ack_ok", alerts: { a: 1 }, revision: 141 });
  await play.clock.pass(6_000);
  assert.equal(acks().length, 1);
});

test("an error while acting acknowledges nothing more", async () => {
  const play = await following({ a: alert() });
  const { value: found } = await play.account.alerts().next();
  await assert.rejects(found.acting(() => Promise.reject(new Error("the broker said no"))), /broker/);
  assert.deepEqual(play.link.sent.filter(({ type }) => type === "ack").map(({ action }) => action), ["acting"]);
  assert.ok(play.warnings.some((sentence) => sentence.includes("escalate")));
});

test("a refused acknowledgement throws with its code", async () => {
  const play = await following({ a: alert() });
  const { value: found } = await play.account.alerts().next();
  const refused = assert.rejects(play.account.acknowledge(found), /not_allowed/);
  await play.link.answer({ type: "error", code: "not_allowed", message: "no", retry: false, alert: "a" });
  await refused;
});

test("beats are sent at most once in a third of the lease, and only when the loop calls", async () => {
  const play = await following({});
  const beats = () => play.link.sent.filter(({ type }) => type === "attend").length;
  const { beat, leave } = play.account.attend("closer-1", { leaseSeconds: 15 });
  await play.clock.pass(4_000);
  for (let call = 0; call < 10; call += 1) beat();
  assert.equal(beats(), 1);
  await play.clock.pass(1_000);
  beat();
  assert.equal(beats(), 2);
  leave("planned restart");
  assert.deepEqual(play.link.sent.at(-1), { type: "leave", as: "closer-1", reason: "planned restart" });
});

test("where no frame can be sent, REST acknowledges", async () => {
  const asked = [];
  const fetch = async (address, { body }) => {
    asked.push([String(address), JSON.parse(body)]);
    return new Response(JSON.stringify({ revision: 101 }), { status: 200 });
  };
  const play = new Play({ channels: ["guards", "alerts"], transports: ["sse"], url: "http://node/desk/", fetch });
  await settled();
  const offered = { channels: ["guards", "alerts"], offers: OFFERS };
  await play.link.answer(welcome(offered), snapshot(100, { guards: {}, alerts: { open: { a: alert() } } }));
  const { value: found } = await play.account.alerts().next();
  await play.account.acknowledge(found, "received");
  assert.deepEqual(asked, [
    ["http://node/desk/api/v1/alerts/a/ack", { generation: 1, as: "unnamed client", action: "received" }],
  ]);
});
