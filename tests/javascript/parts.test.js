import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff } from "../../static/client/backoff.js";
import { fromClose } from "../../static/client/ending.js";
import { refusalOf } from "../../static/client/http.js";
import { EventStreamParser } from "../../static/client/event_stream.js";
import { Ladder } from "../../static/client/ladder.js";
import { parsePattern } from "../../static/client/watchers.js";
import { connect } from "../../static/client.js";
import { vectors } from "./vectors.js";

for (const { code, reason, verdict, retry_after_ms } of vectors("close_codes").closes) {
  test(`a close with ${code} ${reason || "and no reason"} means ${verdict} after ${retry_after_ms} ms`, () => {
    const ending = fromClose(code, reason);
    assert.deepEqual([ending.verdict, ending.retryAfterMs], [verdict, retry_after_ms]);
  });
}

test("what people read of a close is the sentence in it", () => {
  assert.equal(fromClose(1012, '{"reason": "the server is restarting", "retry_after_ms": 5}').reason, "the server is restarting");
  assert.equal(fromClose(4403, "revoked").reason, "revoked");
});

for (const [status, header, verdict, retryAfterMs] of [
  [400, null, "refused", 0],
  [401, null, "token", 0],
  [403, null, "refused", 0],
  [404, null, "retry", 0],
  [422, null, "refused", 0],
  [429, "7", "retry", 7_000],
  [500, null, "retry", 0],
  [503, "Wed, 21 Oct 2026 07:28:00 GMT", "retry", 0],
]) {
  test(`an answer of ${status} with Retry-After ${header} means ${verdict} after ${retryAfterMs} ms`, async () => {
    const headers = new Headers({ "Content-Type": "application/problem+json", ...(header && { "Retry-After": header }) });
    const ending = await refusalOf(new Response("{}", { status, headers }));
    assert.deepEqual([ending.verdict, ending.code, ending.retryAfterMs], [verdict, status, retryAfterMs]);
  });
}

test("a proxy's refusal is not the server's, and its page is not quoted", async () => {
  for (const status of [400, 401, 403, 404, 422, 426]) {
    for (const headers of [{ "Content-Type": "text/html" }, {}]) {
      const ending = await refusalOf(new Response('{"detail":"no"}', { status, headers }));
      assert.deepEqual([ending.verdict, ending.reason], ["retry", `HTTP ${status}`]);
    }
  }
});

test("a problem's sentence is passed on, and a path that is not there is no lost right", async () => {
  const headers = { "Content-Type": "application/problem+json" };
  for (const [body, reason] of [
    ['{"detail":"Check the path."}', "HTTP 404: Check the path."],
    ['{"detail":7}', "HTTP 404"],
    ["[]", "HTTP 404"],
    ["null", "HTTP 404"],
    ["<html>", "HTTP 404"],
    ["", "HTTP 404"],
    [JSON.stringify({ detail: "x".repeat(9_000) }), `HTTP 404: ${"x".repeat(200)}`],
  ]) {
    assert.deepEqual(await refusalOf(new Response(body, { status: 404, headers })), {
      verdict: "retry",
      code: 404,
      reason,
      retryAfterMs: 0,
    });
  }
});

test("delays are spread over the whole interval", () => {
  const first = (random) => new Backoff(() => random).nextMs();
  assert.deepEqual([first(0), first(0.5), first(0.999)], [0, 250, 499.5]);
});

test("a hint is a floor, with jitter on top", () => {
  assert.equal(new Backoff(() => 0).nextMs(2_000), 2_000);
  assert.equal(new Backoff(() => 0.5).nextMs(2_000), 2_250);
});

test("on the best rung nothing better is waited for, on a fallback ever longer", () => {
  const ladder = new Ladder(3);
  assert.equal(ladder.fallenBack, false);
  ladder.failed();
  assert.equal(ladder.rung, 0);
  ladder.failed();
  assert.equal(ladder.rung, 1);
  assert.ok(ladder.fallenBack);
  const delays = Array.from({ length: 6 }, () => ladder.nextReturnMs());
  assert.deepEqual(delays, [5_000, 15_000, 45_000, 135_000, 300_000, 300_000]);
  ladder.climb();
  assert.equal(ladder.nextReturnMs(), 5_000);
});

const EVENTS = 'id: 8:100\nevent: snapshot\ndata: {"a":1}\n\n: keep-alive\n\ndata:first\r\ndata: second\r\n\r\ndata\rdata: x\r\r';

test("an event stream may be cut anywhere", () => {
  const expected = ['{"a":1}', "first\nsecond", "\nx"];
  for (let size = 1; size <= EVENTS.length; size += 1) {
    const parser = new EventStreamParser();
    const events = [];
    for (let start = 0; start < EVENTS.length; start += size) events.push(...parser.push(EVENTS.slice(start, start + size)));
    // A carriage return at the very end may be half of a line break.
    events.push(...parser.push("\n"));
    assert.deepEqual(events, expected, `in pieces of ${size}`);
  }
});

test("an event that its stream did not finish is none", () => {
  assert.deepEqual(new EventStreamParser().push('data: {"a":1}\n'), []);
});

test("patterns are texts with dots or lists", () => {
  assert.deepEqual(parsePattern("positions.open.*"), ["positions", "open", "*"]);
  assert.deepEqual(parsePattern(["a.b"]), ["a.b"]);
  assert.deepEqual(parsePattern(""), []);
});

test("without a page and without a url there is nothing to connect to", () => {
  assert.throws(() => connect({ token: "t" }), /needs the server's url/);
});
