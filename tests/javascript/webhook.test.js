import assert from "node:assert/strict";
import { test } from "node:test";

import { Webhook, WebhookVerificationError } from "standardwebhooks";

import { vectors } from "./vectors.js";

const { secrets, attempted_at: attemptedAt, body, headers } = vectors("webhook");
const MINUTE_MS = 60_000;

/**
 * Lets the clock stand at `ms` after the attempt.
 *
 * @param {import("node:test").TestContext} t
 * @param {number} ms
 */
function waitAfterAttempt(t, ms) {
  t.mock.timers.enable({ apis: ["Date"], now: Date.parse(attemptedAt) + ms });
}

test("the public library verifies a webhook with each secret of a rotation", (t) => {
  waitAfterAttempt(t, MINUTE_MS);
  for (const secret of secrets) {
    assert.deepEqual(new Webhook(secret).verify(body, headers), JSON.parse(body));
  }
});

test("a webhook that is sent again ten minutes later is refused", (t) => {
  waitAfterAttempt(t, 10 * MINUTE_MS);
  assert.throws(() => new Webhook(secrets[0]).verify(body, headers), WebhookVerificationError);
});

test("a webhook whose body, id or time was changed is refused", (t) => {
  waitAfterAttempt(t, MINUTE_MS);
  const webhook = new Webhook(secrets[0]);
  const laterTime = String(Number(headers["webhook-timestamp"]) + 1);
  assert.throws(() => webhook.verify(`${body} `, headers), WebhookVerificationError);
  for (const change of [{ "webhook-id": "another" }, { "webhook-timestamp": laterTime }]) {
    assert.throws(() => webhook.verify(body, { ...headers, ...change }), WebhookVerificationError);
  }
});
