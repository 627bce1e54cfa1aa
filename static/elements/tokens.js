const KEPT_AS = "guardwire.token";

/**
 * Where this page has its access token from: the demo hands one out by itself, elsewhere somebody pastes one. It is kept in
 * memory, in the tab's storage only if asked to, and never in an address.
 */
export class Tokens {
  #ask;
  #storage;
  #fetch;
  /** @type {string | null} */
  #token;
  /** @type {boolean | null} null: not known yet */
  #demo = null;
  /** @type {Promise<string> | null} while somebody is asked */
  #asking = null;

  /**
   * @param {object} parts
   * @param {(problem: string) => Promise<{ token: string, keep: boolean }>} parts.ask
   * @param {Storage} parts.storage
   * @param {typeof globalThis.fetch} parts.fetch
   */
  constructor({ ask, storage, fetch }) {
    this.#ask = ask;
    this.#storage = storage;
    this.#fetch = fetch;
    this.#token = storage.getItem(KEPT_AS);
  }

  /** Whether somebody signed in, and so may sign out. */
  get pasted() {
    return this.#demo === false && this.#token !== null;
  }

  /** The account that the token is for, as far as the token says so itself. */
  get account() {
    return this.#token === null ? null : (claimsOf(this.#token).sub ?? null);
  }

  /**
   * A token to connect with, or to go on with.
   *
   * @param {"connect" | "expiring"} reason
   * @returns {Promise<string>}
   */
  async next(reason) {
    if (this.#demo !== false && (await this.#fromDemo())) return /** @type {string} */ (this.#token);
    // Whether a token has ended is the server's to say: this machine's clock may be wrong.
    if (this.#token !== null && reason === "connect" && this.#asking === null) return this.#token;
    this.#asking ??= this.#fromSomebody(reason === "expiring" ? "This token ends in a minute: paste a new one." : "");
    return this.#asking;
  }

  forget() {
    this.#token = null;
    this.#storage.removeItem(KEPT_AS);
  }

  /** @param {string} problem */
  async #fromSomebody(problem) {
    const { token, keep } = await this.#ask(problem);
    this.#token = token;
    this.#asking = null;
    if (keep) this.#storage.setItem(KEPT_AS, token);
    else this.#storage.removeItem(KEPT_AS);
    return token;
  }

  /** Whether the server handed a token out, or did and is merely away now. */
  async #fromDemo() {
    try {
      const fetch = this.#fetch;
      const response = await fetch("demo/token", { cache: "no-store", redirect: "error" });
      if (response.status === 404 && this.#demo === null) return (this.#demo = false);
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      this.#token = (await response.json()).token;
      return (this.#demo = true);
    } catch (error) {
      if (this.#demo && this.#token !== null) return true;
      throw error;
    }
  }
}

/**
 * What a JWT says, unverified: good for showing, and for nothing else.
 *
 * @param {string} token
 * @returns {{ sub?: string }}
 */
export function claimsOf(token) {
  try {
    const payload = token.split(".")[1] ?? "";
    return JSON.parse(atob(payload.replaceAll("-", "+").replaceAll("_", "/"))) ?? {};
  } catch {
    return {};
  }
}
