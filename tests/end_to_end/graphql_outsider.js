// A GraphQL client as a stranger would write it: npm's graphql-ws over ws, and nothing of this project.
//
// Reads one JSON object, {"url", "token", "query"}, from its standard input, and prints what it holds after each result,
// one JSON object a line. The first patch is the whole state, and each further one is applied to what is held.

import { readFileSync } from "node:fs";
import { createClient } from "graphql-ws";
import { apply } from "json-merge-patch";
import { WebSocket } from "ws";

const { url, token, query } = JSON.parse(readFileSync(0, "utf8"));
const client = createClient({ url, webSocketImpl: WebSocket, connectionParams: { token } });

let held = {};
for await (const result of client.iterate({ query })) {
  if (result.errors) {
    throw new Error(JSON.stringify(result.errors));
  }
  const { base, patch, ...account } = result.data.account;
  held = base === null ? patch : apply(held, patch);
  process.stdout.write(`${JSON.stringify({ ...account, state: held })}\n`);
}
