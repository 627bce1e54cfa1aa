/**
 * The named parts of a piece of the page: every element below `root` with a `data-part`, by that name.
 *
 * @param {ParentNode} root
 * @returns {{ [name: string]: HTMLElement }}
 */
export function partsOf(root) {
  const elements = /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-part]"));
  return Object.fromEntries([...elements].map((element) => [element.dataset.part, element]));
}

/**
 * Changes a text only if it is another: screen readers and layout are left alone otherwise.
 *
 * @param {Element | undefined} element
 * @param {string} text
 * @returns {boolean} whether it changed
 */
export function write(element, text) {
  if (!element || element.textContent === text) return false;
  element.textContent = text;
  return true;
}

/**
 * A copy of the template's first element.
 *
 * @param {string} id
 */
export function fromTemplate(id) {
  const template = /** @type {HTMLTemplateElement} */ (document.getElementById(id));
  return /** @type {HTMLElement} */ (document.importNode(template.content, true).firstElementChild);
}
