import assert from "node:assert/strict";
import { test } from "node:test";

import { parsePattern } from "../../static/client/account.js";
import { fromClose, fromLastFrame } from "../../static/client/endings.js";
import { refusalOf } from "../../static/client/http.js";
import { Backoff, TransportChoice } from "../../static/client/retry.js";
import { EventStreamParser } from "../../static/client/sse.js";
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
  const choice = new TransportChoice(3);
  assert.equal(choice.isFallback, false);
  choice.noteFailure();
  assert.equal(choice.index, 0);
  choice.noteFailure();
  assert.equal(choice.index, 1);
  assert.ok(choice.isFallback);
  const delays = Array.from({ length: 6 }, () => choice.nextReturnMs());
  assert.deepEqual(delays, [5_000, 15_000, 45_000, 135_000, 300_000, 300_000]);
  choice.useBest();
  assert.equal(choice.nextReturnMs(), 5_000);
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

for (const [code, retry, verdict, closeCode] of [
  ["draining", true, "retry", 1012],
  ["revoked", false, "refused", 4403],
  ["token_expired", true, "token", 4001],
  ["unauthenticated", false, "token", 4401],
  ["a code that came later", true, "retry", 1006],
  ["another", false, "refused", 1006],
]) {
  test(`an event stream that ends after the error "${code}" ends as a WebSocket with ${closeCode}`, () => {
    const ending = fromLastFrame({ type: "error", code, message: "because", retry, retry_after_ms: 700 });
    assert.deepEqual(ending, { verdict, code: closeCode, reason: "because", retryAfterMs: 700 });
  });
}

test("an event stream that ends without a reason was lost", () => {
  assert.equal(fromLastFrame(null).verdict, "retry");
  assert.equal(fromLastFrame({ type: "heartbeat" }).code, 1006);
});
