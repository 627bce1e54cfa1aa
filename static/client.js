/**
 * Guardwire's client: one account's live state, mirrored. For browsers, and for Node from version 20.
 *
 * ```js
 * import { connect } from "./client.js";
 *
 * const account = connect({ url: "https://guardwire.example/", token: async () => await myFreshToken() });
 * account.onChange("positions.open.*", (path, now, old) => console.log(path[2], now, old));
 * account.on("freshness", (level) => console.log(level)); // connected | stale | blind
 * ```
 *
 * The client reconnects, resumes, renews the token, notices missed frames and falls back to plain HTTP. `account.fresh` says
 * whether the state may be acted on.
 */

import { Account } from "./client/account.js";

export { Account };

/**
 * Starts mirroring the account of the token's user.
 *
 * @param {import("./client/account.js").ConnectOptions} options
 */
export function connect(options) {
  return new Account(options);
}
