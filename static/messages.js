/**
 * The frames of the stream (PROTOCOL.md, "Frames"): their types, how to read one, how to write one.
 *
 * @typedef {"status" | "positions" | "guards" | "alerts"} Channel
 *
 * @typedef {object} ResumePoint the state that a client holds
 * @property {number} epoch
 * @property {number} revision
 * @property {Channel[]} channels those that the client holds
 *
 * @typedef {object} Ack
 * @property {{ [alertId: string]: number }} alerts each with the generation that the client holds
 * @property {string} as the name of the bot or person
 * @property {"received" | "acting" | "done"} [action] `received` when left out
 *
 * @typedef {object} Snooze
 * @property {string} alert
 * @property {number} generation
 * @property {number} seconds 1 to 3,600
 * @property {string} as
 * @property {string} reason
 *
 * @typedef {object} Attend
 * @property {string} as
 * @property {number} lease_seconds 5 to 60
 *
 * @typedef {object} Leave
 * @property {string} as
 * @property {string} [reason]
 *
 * @typedef {object} Welcome
 * @property {"welcome"} type
 * @property {string} session
 * @property {number} epoch
 * @property {Channel[]} channels
 * @property {number} expires_at unix seconds
 * @property {number} heartbeat_seconds
 * @property {boolean} resumed
 * @property {{ channels: string[], frames: string[] }} [offers] what this node takes; absent of the first release
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
 * @typedef {object} AckOk
 * @property {"ack_ok"} type
 * @property {{ [alertId: string]: number }} alerts the generations that are acknowledged
 * @property {number} revision
 *
 * @typedef {object} SnoozeOk
 * @property {"snooze_ok"} type
 * @property {string} alert
 * @property {number} generation
 * @property {number} revision
 *
 * @typedef {object} Problem
 * @property {"error"} type
 * @property {string} code
 * @property {string} message
 * @property {boolean} retry
 * @property {number} [retry_after_ms]
 * @property {string} [alert] of the `ack` or `snooze` that was refused
 *
 * @typedef {SnapshotFrame | Update | Heartbeat} Dated a frame that says how old the state is
 * @typedef {Welcome | Dated | AuthRequired | AuthOk | Move | AckOk | SnoozeOk | Problem} ServerFrame
 */

import { isObject } from "./patch.js";

export const SUBPROTOCOL = "guardwire.v1";

/** The channels of a client that names none. @type {readonly Channel[]} */
export const DEFAULT_CHANNELS = Object.freeze(["status", "positions", "guards"]);

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

/** @param {Ack} frame @returns {string} */
export function ack(frame) {
  return JSON.stringify({ type: "ack", ...frame });
}

/** @param {Snooze} frame @returns {string} */
export function snooze(frame) {
  return JSON.stringify({ type: "snooze", ...frame });
}

/** @param {Attend} frame @returns {string} */
export function attend(frame) {
  return JSON.stringify({ type: "attend", ...frame });
}

/** @param {Leave} frame @returns {string} */
export function leave(frame) {
  return JSON.stringify({ type: "leave", ...frame });
}
