// A client as a stranger would write it, with a WebSocket library and a library of RFC 7396 and nothing of this project.
//
// It follows accounts over several nodes, one after the other: when a node is gone it goes on at the next from where it
// was. Reads one JSON object, {"urls": […], "tokens": […]}, from its standard input, and prints one JSON object a line:
// what it holds of an account (by the number of its token) after each frame.

import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { apply } from "json-merge-patch";
import { WebSocket } from "ws";

const { urls, tokens } = JSON.parse(readFileSync(0, "utf8"));

class Account {
  constructor(number, token) {
    Object.assign(this, { number, token, epoch: 0, revision: -1, state: {}, waiting: true, resumed: [], resyncs: 0 });
  }

  async follow() {
    for (let turn = 0; ; turn++) {
      await this.stay(urls[turn % urls.length]);
      await pause(20);
    }
  }

  /** Follow at one node, until it is gone. */
  stay(url) {
    const since = this.revision < 0 ? "" : `?since=${this.epoch}:${this.revision}`;
    const headers = { authorization: `Bearer ${this.token}` };
    const socket = new WebSocket(`${url.replace("http", "ws")}/ws${since}`, { headers });
    socket.on("message", (text) => this.take(JSON.parse(text.toString()), socket));
    socket.on("error", () => {}); // "close" follows
    return new Promise((resolve) => socket.on("close", resolve));
  }

  take(frame, socket) {
    if (frame.type === "welcome") {
      this.resumed.push(frame.resumed);
      this.waiting = !frame.resumed;
    } else if (frame.type === "snapshot") {
      this.hold(frame.epoch, frame.revision, frame.state);
      this.waiting = false;
    } else if (!this.waiting && (frame.type === "update" || frame.type === "heartbeat")) {
      if (frame.base !== this.revision) {
        this.waiting = true;
        this.resyncs += 1;
        socket.send(JSON.stringify({ type: "resync" }));
        return;
      }
      this.hold(this.epoch, frame.revision, apply(this.state, frame.patch ?? {}));
    }
    this.tell();
  }

  hold(epoch, revision, state) {
    if (epoch < this.epoch || (epoch === this.epoch && revision < this.revision)) {
      throw new Error(`it went back from ${this.epoch}:${this.revision} to ${epoch}:${revision}`);
    }
    Object.assign(this, { epoch, revision, state });
  }

  tell() {
    const { number, epoch, revision, state, resumed, resyncs } = this;
    process.stdout.write(`${JSON.stringify({ number, epoch, revision, state, resumed, resyncs })}\n`);
  }
}

await Promise.all(tokens.map((token, number) => new Account(number, token).follow()));
