// A program that follows an account with the client and prints each event as one line of JSON.
//
//     node [--experimental-websocket] follow.js URL TOKEN TRANSPORT

import { transportsFor } from "../../static/client/link.js";
import { connect } from "../../static/client.js";

const [url, token, name] = process.argv.slice(2);
const transports = transportsFor({ url, WebSocket: globalThis.WebSocket, fetch }).filter((each) => each.name === name);
const account = connect({ transports, token });

const tell = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

account.on("change", (state) => tell({ state }));
account.on("freshness", (level) => tell({ level }));
account.on("connection", ({ phase }) => tell({ phase }));
