const KEPT_AS = "guardwire.token";
/** Answers that say that nobody is signed in, or somebody who may not see this. */
const SIGNED_OUT = [401, 403];

/**
 * The source of this page's access token. An address of the page's own origin gives one to users who are signed in there;
 * without such an address the user pastes one. A pasted token is kept in memory, in the tab's storage only if asked to, and
 * never in an address.
 */
export class Tokens {
  #url;
  #ask;
  #storage;
  #fetch;
  /** @type {string | null} */
  #token;
  /** @type {Promise<string> | null} while the form is open */
  #asking = null;
  /** Why the server refused the last token; "" when it did not. */
  #refusal = "";

  /**
   * @param {object} parts
   * @param {string} parts.url of this origin; "" for none
   * @param {(problem: string, reason: "connect" | "expiring") => Promise<{ token: string, keep: boolean }>} parts.ask
   * @param {Storage} parts.storage
   * @param {typeof globalThis.fetch} parts.fetch
   */
  constructor({ url, ask, storage, fetch }) {
    this.#url = url;
    this.#ask = ask;
    this.#storage = storage;
    this.#fetch = fetch;
    this.#token = url === "" ? storage.getItem(KEPT_AS) : null;
  }

  /** Whether the user pasted the token, and so may sign out. */
  get pasted() {
    return this.#url === "" && this.#token !== null;
  }

  /** Whether the form is open. */
  get isAsking() {
    return this.#asking !== null;
  }

  /** The account that the token names; null where it names none. */
  get account() {
    return this.#token === null ? null : (claimsOf(this.#token).sub ?? null);
  }

  /** The scopes that the token names: the page offers no more than these allow, and the server decides. @returns {string[]} */
  get scopes() {
    const { scope, scp = [] } = this.#token === null ? {} : claimsOf(this.#token);
    const names = scope ?? scp;
    return Array.isArray(names) ? names : String(names).split(" ");
  }

  /**
   * A token to connect with, or to go on with; null where nobody is signed in.
   *
   * @param {"connect" | "expiring"} reason
   * @returns {Promise<string | null>}
   */
  async next(reason) {
    if (this.#url !== "") return this.#handedOut();
    // The server decides whether a token has ended, because this machine's clock may be wrong.
    if (this.#token !== null && reason === "connect" && this.#asking === null) return this.#token;
    const problem = reason === "expiring" ? "This token ends in a minute: paste a new one." : this.#refusal;
    this.#asking ??= this.#fromUser(problem, reason);
    return this.#asking;
  }

  /** Notes that the server refused the token: the form opens again with its reason. @param {string} reason */
  reject(reason) {
    if (!this.pasted) return;
    this.forget();
    this.#refusal = reason;
  }

  forget() {
    this.#token = null;
    this.#storage.removeItem(KEPT_AS);
  }

  /**
   * @param {string} problem
   * @param {"connect" | "expiring"} reason
   */
  async #fromUser(problem, reason) {
    const { token, keep } = await this.#ask(problem, reason);
    this.#token = token;
    this.#refusal = "";
    this.#asking = null;
    if (keep) this.#storage.setItem(KEPT_AS, token);
    else this.#storage.removeItem(KEPT_AS);
    return token;
  }

  /** A new token; the one before while the address is merely away. */
  async #handedOut() {
    try {
      const fetch = this.#fetch;
      const options = /** @type {const} */ ({ cache: "no-store", credentials: "same-origin", redirect: "error" });
      const response = await fetch(this.#url, options);
      if (SIGNED_OUT.includes(response.status)) return (this.#token = null);
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      const { token } = await response.json();
      if (typeof token !== "string") throw new Error("the answer holds no token");
      return (this.#token = token);
    } catch (error) {
      if (this.#token !== null) return this.#token;
      throw error;
    }
  }
}

/**
 * The claims of a JWT, which are not verified here: they may be shown, and nothing may depend on them.
 *
 * @param {string} token
 * @returns {{ sub?: string, scope?: unknown, scp?: unknown }}
 */
export function claimsOf(token) {
  try {
    const payload = token.split(".")[1] ?? "";
    return JSON.parse(atob(payload.replaceAll("-", "+").replaceAll("_", "/"))) ?? {};
  } catch {
    return {};
  }
}
