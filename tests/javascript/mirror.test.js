import assert from "node:assert/strict";
import { test } from "node:test";

import { Mirror, StateAge } from "../../static/client/mirror.js";
import { ack, attend, decode, hello, leave, snooze } from "../../static/messages.js";
import { vectors } from "./vectors.js";

for (const { name, steps } of vectors("mirror").sequences) {
  test(`mirror: ${name}`, () => {
    const mirror = new Mirror();
    steps.forEach(({ frame, reaction, state, position }, index) => {
      assert.equal(mirror.receive(frame), reaction, `reaction to frame ${index}`);
      assert.deepEqual(mirror.state, state, `state after frame ${index}`);
      const held = mirror.resumePoint && { epoch: mirror.resumePoint.epoch, revision: mirror.resumePoint.revision };
      assert.deepEqual(held, position, `position after frame ${index}`);
    });
  });
}

for (const { name, steps } of vectors("freshness").timelines) {
  test(`freshness: ${name}`, () => {
    const age = new StateAge();
    for (const { at_ms, confirm, doubt, welcome, link_ended, level, age_ms } of steps) {
      const now = { monotonicMs: 5_000 + at_ms, wallMs: 1_700_000_000_000 + at_ms };
      if (confirm) age.confirm(confirm, now);
      if (doubt) age.doubt();
      if (welcome) age.noteWelcome(welcome);
      if (link_ended) age.noteLinkEnded();
      assert.equal(age.level(now), level, `level at ${at_ms} ms`);
      assert.equal(age.ageMs(now), age_ms, `age at ${at_ms} ms`);
    }
  });
}

const snapshot = { type: "snapshot", epoch: 8, revision: 1, as_of: "2026-01-05T09:00:00.000000Z", age_ms: 250, state: {} };

test("a monotonic clock that stood still while the machine slept does not make the state young", () => {
  const age = new StateAge();
  age.confirm(snapshot, { monotonicMs: 0, wallMs: 1_000 });
  assert.equal(age.level({ monotonicMs: 10, wallMs: 601_000 }), "blind");
});

test("a wall clock that was set back does not make the state young", () => {
  const age = new StateAge();
  age.confirm(snapshot, { monotonicMs: 0, wallMs: 3_600_000 });
  assert.equal(age.ageMs({ monotonicMs: 9_000, wallMs: 9_000 }), 9_250);
});

test("the database's time is known without any right clock here", () => {
  const age = new StateAge();
  assert.equal(age.databaseNowMs({ monotonicMs: 0, wallMs: 0 }), null);
  age.confirm(snapshot, { monotonicMs: 0, wallMs: 0 });
  assert.equal(age.databaseNowMs({ monotonicMs: 750, wallMs: 750 }), Date.UTC(2026, 0, 5, 9, 0, 1));
});

test("what is given up is blind, however young", () => {
  const age = new StateAge();
  age.confirm(snapshot, { monotonicMs: 0, wallMs: 0 });
  age.noteClosed();
  assert.equal(age.level({ monotonicMs: 1, wallMs: 1 }), "blind");
});

test("the position names the channels that are held", () => {
  const mirror = new Mirror();
  assert.equal(mirror.resumePoint, null);
  mirror.receive({ ...snapshot, state: { guards: {}, status: {} } });
  assert.deepEqual(mirror.resumePoint, { epoch: 8, revision: 1, channels: ["guards", "status"] });
});

for (const broken of [{ epoch: "8" }, { revision: null }, { state: [] }, { state: null }]) {
  test(`a snapshot with ${JSON.stringify(broken)} is not believed`, () => {
    const mirror = new Mirror();
    assert.equal(mirror.receive({ ...snapshot, ...broken }), "resync");
    assert.equal(mirror.state, null);
  });
}

test("an update whose patch is no object is not believed", () => {
  const mirror = new Mirror();
  mirror.receive(snapshot);
  assert.equal(mirror.receive({ type: "update", base: 1, revision: 2, age_ms: 0, patch: null }), "resync");
  assert.deepEqual(mirror.state, {});
});

test("only an object with a type is a frame", () => {
  assert.deepEqual(decode('{"type":"weather"}'), { type: "weather" });
  for (const text of ["", "null", "7", "[]", "{}", '{"type":7}', "{", undefined, new Uint8Array(2)]) {
    assert.equal(decode(text), null, String(text));
  }
});

test("a hello without a position to resume from says nothing about one", () => {
  assert.deepEqual(JSON.parse(hello({ token: "t", channels: ["guards"], resume: null })), {
    type: "hello",
    token: "t",
    channels: ["guards"],
  });
});

test("frames about alerts have their type and what they are given", () => {
  assert.deepEqual(JSON.parse(ack({ alerts: { a: 2 }, as: "bot", action: "acting" })), {
    type: "ack",
    alerts: { a: 2 },
    as: "bot",
    action: "acting",
  });
  assert.deepEqual(JSON.parse(snooze({ alert: "a", generation: 2, seconds: 60, as: "ana", reason: "by hand" })), {
    type: "snooze",
    alert: "a",
    generation: 2,
    seconds: 60,
    as: "ana",
    reason: "by hand",
  });
  assert.deepEqual(JSON.parse(attend({ as: "bot", lease_seconds: 15 })), { type: "attend", as: "bot", lease_seconds: 15 });
  assert.deepEqual(JSON.parse(leave({ as: "bot" })), { type: "leave", as: "bot" });
});
