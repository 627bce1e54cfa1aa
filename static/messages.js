/**
 * The frames of the stream (PROTOCOL.md, "Frames"): their types, how to read one, how to write one.
 *
 * @typedef {"status" | "positions" | "guards"} Channel
 *
 * @typedef {object} ResumePoint the state that a client holds
 * @property {number} epoch
 * @property {number} revision
 * @property {Channel[]} channels those that the client holds
 *
 * @typedef {object} Welcome
 * @property {"welcome"} type
 * @property {string} session
 * @property {number} epoch
 * @property {Channel[]} channels
 * @property {number} expires_at unix seconds
 * @property {number} heartbeat_seconds
 * @property {boolean} resumed
 *
 * @typedef {object} SnapshotFrame
 * @property {"snapshot"} type
 * @property {number} epoch
 * @property {number} revision
 * @property {string} as_of the database's time of the read
 * @property {number} age_ms how long ago that read began when the frame was sent
 * @property {import("./state.js").AccountState} state
 *
 * @typedef {object} Update
 * @property {"update"} type
 * @property {number} base
 * @property {number} revision
 * @property {string} as_of
 * @property {number} age_ms
 * @property {import("./patch.js").JsonObject} patch
 *
 * @typedef {object} Heartbeat
 * @property {"heartbeat"} type
 * @property {number} base
 * @property {number} revision
 * @property {string} [as_of]
 * @property {number} age_ms
 * @property {boolean} stale the server cannot read the database, or rows of the platform wait to be applied
 *
 * @typedef {object} AuthRequired
 * @property {"auth_required"} type
 * @property {number} expires_at unix seconds
 *
 * @typedef {object} AuthOk
 * @property {"auth_ok"} type
 * @property {number} expires_at unix seconds
 *
 * @typedef {object} Move
 * @property {"move"} type
 * @property {number} within_ms
 *
 * @typedef {object} Problem
 * @property {"error"} type
 * @property {string} code
 * @property {string} message
 * @property {boolean} retry
 * @property {number} [retry_after_ms]
 *
 * @typedef {SnapshotFrame | Update | Heartbeat} Dated a frame that says how old the state is
 * @typedef {Welcome | Dated | AuthRequired | AuthOk | Move | Problem} ServerFrame
 */

import { isObject } from "./patch.js";

export const SUBPROTOCOL = "guardwire.v1";

/** @type {readonly Channel[]} */
export const CHANNELS = Object.freeze(["status", "positions", "guards"]);

/**
 * The frame in a text, or null when it is none. Types that are not known here are passed on: servers may grow.
 *
 * @param {unknown} text
 * @returns {ServerFrame | null}
 */
export function decode(text) {
  if (typeof text !== "string") return null;
  try {
    const frame = JSON.parse(text);
    return isObject(frame) && typeof frame.type === "string" ? /** @type {any} */ (frame) : null;
  } catch {
    return null;
  }
}

/**
 * The first frame of a WebSocket.
 *
 * @param {{ token: string, channels: readonly Channel[], resume: ResumePoint | null }} opening
 * @returns {string}
 */
export function hello({ token, channels, resume }) {
  return JSON.stringify({ type: "hello", token, channels, ...(resume && { resume }) });
}
