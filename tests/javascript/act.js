// A program that acts on the first alert of an account and prints each state of it as one line of JSON.
//
//     node [--experimental-websocket] act.js URL TOKEN TRANSPORT

import { transportsFor } from "../../static/client/link.js";
import { connect } from "../../static/client.js";

const [url, token, name] = process.argv.slice(2);
const transports = transportsFor({ url, WebSocket: globalThis.WebSocket, fetch }).filter((each) => each.name === name);
const account = connect({ url, transports, token, channels: ["guards", "alerts"] });

account.onChange("alerts.open.*", (path, alert) => process.stdout.write(`${JSON.stringify(alert ?? null)}\n`));
account.attend("closer-js");
for await (const alert of account.alerts()) {
  await account.acknowledge(alert);
  await alert.acting(() => {});
}
