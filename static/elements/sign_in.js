import { partsOf, write } from "./parts.js";

/** The form for a token, where the server does not hand one out itself. */
export class SignInElement extends HTMLElement {
  #parts = partsOf(this);

  /**
   * Shows the form until the user fills it in.
   *
   * @param {string} problem why the last token is no longer good; empty at first
   * @param {{ focus: boolean }} options `focus`: whether the form takes the keyboard from the rest of the page
   * @returns {Promise<{ token: string, keep: boolean }>}
   */
  ask(problem, { focus }) {
    this.hidden = false;
    write(this.#parts.problem, problem);
    if (this.#parts.problem) this.#parts.problem.hidden = problem === "";
    const form = /** @type {HTMLFormElement} */ (this.#parts.form);
    if (focus) this.focusForm();
    return new Promise((resolve) => {
      form.addEventListener("submit", (event) => {
        // The browser must not send the form, because the token would be in an address.
        event.preventDefault();
        const data = new FormData(form);
        const answer = { token: String(data.get("token")).trim(), keep: data.has("keep") };
        form.reset();
        this.hidden = true;
        resolve(answer);
      }, { once: true });
    });
  }

  /** Brings the form into view and the keyboard to it. */
  focusForm() {
    this.querySelector("textarea")?.focus();
  }
}
