import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";

import { transportsFor } from "../../static/client/link.js";
import { heartbeat, snapshot, update } from "./played_server.js";

/**
 * A real HTTP server that answers with `handler`, and one link to it.
 *
 * @param {import("node:test").TestContext} t
 * @param {string} name of the transport
 * @param {import("node:http").RequestListener} handler
 * @param {object} options of the link
 */
async function linkTo(t, name, handler, options = {}) {
  const server = createServer(handler).listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${server.address().port}/`;
  const transport = transportsFor({ url, WebSocket: undefined, fetch }).find((each) => each.name === name);
  const heard = queue();
  const link = transport.open({
    token: "secret",
    channels: ["guards", "status"],
    resume: null,
    onFrame: (frame) => heard.push(frame),
    onEnd: (ending) => heard.push({ ending }),
    ...options,
  });
  t.after(() => {
    link.close();
    server.closeAllConnections();
    server.close();
  });
  return { link, heard };
}

/** Values that are awaited one by one. */
function queue() {
  const values = [];
  let wake = () => {};
  return {
    push(value) {
      values.push(value);
      wake();
    },
    async next() {
      while (values.length === 0) await new Promise((resolve) => (wake = resolve));
      return values.shift();
    },
  };
}

const fresh = { "Guardwire-Age-Ms": "300", "Guardwire-As-Of": "2026-01-05T09:00:00.000000Z", "Guardwire-Stale": "false" };
const resume = { epoch: 8, revision: 100, channels: ["status", "guards"] };
const event = (frame) => `id: 8:${frame.revision}\ndata: ${JSON.stringify(frame)}\n\n`;

test("an event stream brings frames as they are written, with the token in a header and not in the address", async (t) => {
  let asked;
  const { heard } = await linkTo(t, "sse", (request, response) => {
    asked = request;
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(event(snapshot(100, { guards: {} })) + event(update(100, 101, {})).slice(0, 20));
    setImmediate(() => response.write(event(update(100, 101, {})).slice(20)));
  });
  assert.deepEqual(await heard.next(), snapshot(100, { guards: {} }));
  assert.deepEqual(await heard.next(), update(100, 101, {}));
  assert.equal(asked.url, "/api/v1/stream?channels=guards%2Cstatus");
  assert.equal(asked.headers.authorization, "Bearer secret");
  assert.equal(asked.headers["last-event-id"], undefined);
});

test("an event stream resumes where the client stands, if it holds just the channels that it asks for", async (t) => {
  const asked = [];
  const handler = (request, response) => {
    asked.push(request.headers["last-event-id"]);
    response.end();
  };
  await (await linkTo(t, "sse", handler, { resume })).heard.next();
  await (await linkTo(t, "sse", handler, { resume: { ...resume, channels: ["guards"] } })).heard.next();
  await (await linkTo(t, "sse", handler, { resume: { ...resume, channels: ["guards", "positions"] } })).heard.next();
  const more = { ...resume, channels: ["status", "guards", "positions"] };
  await (await linkTo(t, "sse", handler, { resume: more })).heard.next();
  assert.deepEqual(asked, ["8:100", undefined, undefined, undefined]);
});

test("an event stream that ends, or is refused, says so once", async (t) => {
  const ended = await linkTo(t, "sse", (_, response) => response.end());
  assert.equal((await ended.heard.next()).ending.verdict, "retry");
  const refused = await linkTo(t, "sse", (_, response) => {
    response.writeHead(403, { "Content-Type": "application/problem+json" }).end("{}");
  });
  assert.deepEqual((await refused.heard.next()).ending, { verdict: "refused", code: 403, reason: "HTTP 403", retryAfterMs: 0 });
});

test("a closed event stream hangs up and says nothing", async (t) => {
  let hungUp;
  const { link, heard } = await linkTo(t, "sse", (request, response) => {
    hungUp = once(request.socket, "close");
    response.write(event(snapshot(100, {})));
  });
  await heard.next();
  link.close();
  await hungUp;
  heard.push("nothing else");
  assert.equal(await heard.next(), "nothing else");
});

test("an event stream that is closed by what it brought brings nothing more", async (t) => {
  const brought = [];
  const { link, heard } = await linkTo(
    t,
    "sse",
    (_, response) => response.write(event(snapshot(100, {})) + event(update(100, 101, {}))),
    {
      onFrame(frame) {
        brought.push(frame);
        link.close();
        setImmediate(() => heard.push("closed"));
      },
    },
  );
  await heard.next();
  assert.deepEqual(brought, [snapshot(100, {})]);
});

test("polling asks for what it lacks: first all, then what is newer, waiting for it", async (t) => {
  const asked = [];
  const answers = [
    [200, fresh, snapshot(100, { guards: {} })],
    [200, fresh, update(100, 105, { guards: { system_status: "warning" } })],
    [304, { ...fresh, "Guardwire-Revision": "105" }],
    [304, { ...fresh, "Guardwire-Revision": "109" }],
    [503, { "Retry-After": "2" }],
  ];
  const { heard } = await linkTo(t, "poll", (request, response) => {
    asked.push(request.url);
    const [status, headers, frame] = answers.shift();
    response.writeHead(status, headers).end(frame && JSON.stringify(frame));
  });
  assert.deepEqual(await heard.next(), snapshot(100, { guards: {} }));
  assert.deepEqual(await heard.next(), update(100, 105, { guards: { system_status: "warning" } }));
  assert.deepEqual(await heard.next(), heartbeat(105));
  assert.deepEqual(await heard.next(), heartbeat(109, { base: 105 }));
  assert.deepEqual((await heard.next()).ending, { verdict: "retry", code: 503, reason: "HTTP 503", retryAfterMs: 2_000 });
  assert.deepEqual(asked, [
    "/api/v1/state?channels=guards%2Cstatus",
    "/api/v1/state?channels=guards%2Cstatus&since=8%3A100&wait=10",
    "/api/v1/state?channels=guards%2Cstatus&since=8%3A105&wait=10",
    "/api/v1/state?channels=guards%2Cstatus&since=8%3A105&wait=10",
    "/api/v1/state?channels=guards%2Cstatus&since=8%3A109&wait=10",
  ]);
});

test("a poll that a blind server answers is stale, with and without news", async (t) => {
  const blind = { "Guardwire-Age-Ms": "9000", "Guardwire-Stale": "true" };
  const answers = [
    [200, blind, snapshot(100, {})],
    [304, blind],
    [304, { "Guardwire-Stale": "false" }],
  ];
  const { heard } = await linkTo(t, "poll", (_, response) => {
    const [status, headers, frame] = answers.shift() ?? [503, {}];
    response.writeHead(status, headers).end(frame && JSON.stringify(frame));
  });
  assert.deepEqual(await heard.next(), snapshot(100, {}));
  assert.deepEqual(await heard.next(), heartbeat(100, { as_of: "", age_ms: 9_000, stale: true }));
  assert.deepEqual(await heard.next(), heartbeat(100, { as_of: "", age_ms: 9_000, stale: true }));
  assert.deepEqual(await heard.next(), heartbeat(100, { as_of: "", age_ms: 0, stale: true }));
});

test("polling resumes without waiting at first, so that it is known at once whether this way is open", async (t) => {
  const asked = [];
  const { heard } = await linkTo(t, "poll", (request, response) => {
    asked.push(request.url);
    response.writeHead(304, fresh).end();
  }, { resume });
  assert.deepEqual(await heard.next(), heartbeat(100));
  assert.deepEqual(asked, ["/api/v1/state?channels=guards%2Cstatus&since=8%3A100"]);
});

test("a server that cannot be reached ends the link", async (t) => {
  for (const name of ["sse", "poll"]) {
    const { heard } = await linkTo(t, name, (request) => request.socket.destroy());
    assert.equal((await heard.next()).ending.code, 1006);
  }
});

test("a WebSocket that fails without ever saying that it is closed ends the link, one that says so ends it once", async () => {
  for (const close of [null, { code: 1013, reason: '{"retry_after_ms": 2000}' }]) {
    class FailingSocket {
      constructor() {
        setImmediate(() => {
          this.onerror({});
          if (close) this.onclose(close);
        });
      }
      close() {}
    }
    const [transport] = transportsFor({ url: "http://127.0.0.1/", WebSocket: FailingSocket, fetch });
    const ended = queue();
    transport.open({ token: "t", channels: [], resume: null, onFrame() {}, onEnd: ended.push });
    const { code, reason } = await ended.next();
    assert.equal(code, close?.code ?? 1006);
    // Browsers hide the reason from pages, so the sentence names the usual causes.
    if (!close) assert.match(reason, /GUARDWIRE_ALLOWED_ORIGINS/);
    // The callback that the error event deferred runs before this one.
    setTimeout(() => ended.push("nothing else"));
    assert.equal(await ended.next(), "nothing else");
  }
});

test("an answer that is no frame ends the link", async (t) => {
  for (const body of ["<html>a proxy's page</html>", "[]"]) {
    const { heard } = await linkTo(t, "poll", (_, response) => response.end(body));
    assert.equal((await heard.next()).ending.verdict, "retry");
  }
});

for (const name of ["sse", "poll"]) {
  test(`over ${name} a redirect is not followed, neither elsewhere nor within the origin`, async (t) => {
    const elsewhere = [];
    const other = createServer((request, response) => {
      elsewhere.push(request.headers);
      response.end("{}");
    }).listen(0, "127.0.0.1");
    await once(other, "listening");
    t.after(() => other.close());
    for (const location of [`http://127.0.0.1:${other.address().port}/take`, "/another/path"]) {
      const asked = [];
      const { heard } = await linkTo(t, name, (request, response) => {
        asked.push(request.url);
        response.writeHead(307, { Location: location, "Access-Control-Allow-Origin": "*" }).end();
      });
      const { ending } = await heard.next();
      assert.equal(ending.verdict, "retry");
      assert.match(ending.reason, /fetch failed \(.*redirect.*\)/);
      assert.equal(asked.length, 1);
    }
    assert.deepEqual(elsewhere, []);
  });
}

for (const name of ["sse", "poll"]) {
  test(`over ${name} a refusal's reason is the sentence of its problem document`, async (t) => {
    const cases = [
      [{ detail: "The token is meant for another audience." }, "HTTP 401: The token is meant for another audience."],
      [{ detail: "x".repeat(5_000) }, `HTTP 401: ${"x".repeat(200)}`],
      [{ detail: ["no sentence"] }, "HTTP 401"],
      [{ detail: "y", filler: "x".repeat(100_000) }, "HTTP 401"],
      [null, "HTTP 401"],
    ];
    for (const [problem, reason] of cases) {
      const { heard } = await linkTo(t, name, (_, response) => {
        response.writeHead(401, { "Content-Type": "application/problem+json" }).end(JSON.stringify(problem));
      });
      const { ending } = await heard.next();
      assert.deepEqual([ending.verdict, ending.code, ending.reason], ["token", 401, reason]);
    }
  });

  test(`over ${name} a page of somebody in between is not quoted`, async (t) => {
    const { heard } = await linkTo(t, name, (_, response) => {
      response.writeHead(401, { "Content-Type": "text/html" }).end('{"detail": "log in to the hotel"}');
    });
    assert.equal((await heard.next()).ending.reason, "HTTP 401");
  });

  test(`over ${name} a server that is not there is named by the cause`, async (t) => {
    const nobody = createServer().listen(0, "127.0.0.1");
    await once(nobody, "listening");
    const url = `http://127.0.0.1:${nobody.address().port}/`;
    await new Promise((resolve) => nobody.close(resolve));
    const transport = transportsFor({ url, WebSocket: undefined, fetch }).find((each) => each.name === name);
    const ending = await new Promise((resolve) => {
      transport.open({ token: "secret", channels: ["guards"], resume: null, onFrame() {}, onEnd: resolve });
    });
    assert.match(ending.reason, /fetch failed \(.*ECONNREFUSED/);
  });
}
