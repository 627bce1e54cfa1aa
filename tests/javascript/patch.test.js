import assert from "node:assert/strict";
import { test } from "node:test";

import { apply, equal, reuse } from "../../static/patch.js";
import { vectors } from "./vectors.js";

const { cases, replays } = vectors("merge_patch");

for (const { name, target, patch, result } of cases) {
  test(`merge patch: ${name}`, () => {
    const before = structuredClone(target);
    assert.deepEqual(apply(target, patch), result);
    assert.deepEqual(target, before, "the target was changed in place");
  });
}

for (const { name, states, patches } of replays) {
  test(`replay: ${name}`, () => {
    patches.forEach((patch, index) => assert.deepEqual(apply(states[index], patch), states[index + 1]));
  });
}

test("what a patch does not touch is the same object afterwards", () => {
  const before = { positions: { open: { 11: { volume: 1 }, 12: { volume: 2 } } }, guards: { alerts: {} } };
  const after = apply(before, { positions: { open: { 12: { volume: 3 } } } });
  assert.notEqual(after.positions.open["12"], before.positions.open["12"]);
  assert.equal(after.positions.open["11"], before.positions.open["11"]);
  assert.equal(after.guards, before.guards);
});

test("a patch that sets what is there already gives the same object back", () => {
  const before = { open: { 11: { volume: 1, tags: ["a", { b: 1 }] } } };
  assert.equal(apply(before, { open: { 11: { volume: 1, tags: ["a", { b: 1 }] }, 99: null } }), before);
});

test("a key named __proto__ gives no object another prototype", () => {
  const patch = JSON.parse('{"__proto__": {"polluted": true}}');
  const after = apply({}, patch);
  assert.equal(after.polluted, undefined);
  assert.equal(Object.getPrototypeOf(after), Object.prototype);
  assert.deepEqual(Object.keys(after), ["__proto__"]);
});

test("a new snapshot reuses every part that is equal to what was held", () => {
  const held = { a: { b: { c: 1 } }, d: { e: [1, 2] } };
  const next = reuse(held, { a: { b: { c: 1 } }, d: { e: [1, 3] }, f: 1 });
  assert.deepEqual(next, { a: { b: { c: 1 } }, d: { e: [1, 3] }, f: 1 });
  assert.equal(next.a, held.a);
  assert.equal(reuse(held, structuredClone(held)), held);
});

test("values are equal whatever the order of their keys, lists only in their order", () => {
  assert.ok(equal({ a: 1, b: [1, { c: 2 }] }, { b: [1, { c: 2 }], a: 1 }));
  for (const [left, right] of [[{ a: 1 }, { a: 1, b: 2 }], [{ a: undefined }, {}], [[1, 2], [2, 1]], [[], {}], [null, {}], [0, ""], [{ a: 1 }, { b: 1 }]]) {
    assert.ok(!equal(left, right), `${JSON.stringify(left)} and ${JSON.stringify(right)}`);
  }
});

test("random patches give what a plain reading of the RFC gives", () => {
  const random = randomNumbers(20_260_105);
  for (let round = 0; round < 2_000; round += 1) {
    const [target, patch] = [randomJson(random, 4), randomJson(random, 4)];
    assert.deepEqual(apply(target, patch), mergePatch(structuredClone(target), patch));
  }
});

/** The pseudocode of RFC 7396, section 2, as it stands there. */
function mergePatch(target, patch) {
  if (typeof patch !== "object" || patch === null) return patch;
  const result = typeof target === "object" && target !== null ? target : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = mergePatch(result[name], value);
  }
  return result;
}

/** Objects and numbers nested up to `depth`; few keys, so that targets and patches meet. */
function randomJson(random, depth) {
  const kind = random();
  if (depth === 0 || kind < 0.25) return Math.floor(random() * 3);
  if (kind < 0.4 && depth < 4) return null;
  const keys = ["a", "b", "c"].filter(() => random() < 0.6);
  return Object.fromEntries(keys.map((key) => [key, randomJson(random, depth - 1)]));
}

/** A small linear congruential generator: the same numbers on every run. */
function randomNumbers(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
