import { partsOf, write } from "./parts.js";

/** The form for a token, where the server does not hand one out itself. */
export class SignInElement extends HTMLElement {
  #parts = partsOf(this);

  /**
   * Shows the form until somebody fills it in.
   *
   * @param {string} problem what was wrong with the last token; empty at first
   * @returns {Promise<{ token: string, keep: boolean }>}
   */
  ask(problem) {
    this.hidden = false;
    write(this.#parts.problem, problem);
    if (this.#parts.problem) this.#parts.problem.hidden = problem === "";
    const form = /** @type {HTMLFormElement} */ (this.#parts.form);
    form.querySelector("textarea")?.focus();
    return new Promise((resolve) => {
      form.addEventListener("submit", (event) => {
        // Never sent as a form: the token must not come near an address.
        event.preventDefault();
        const data = new FormData(form);
        const answer = { token: String(data.get("token")).trim(), keep: data.has("keep") };
        form.reset();
        this.hidden = true;
        resolve(answer);
      }, { once: true });
    });
  }
}
