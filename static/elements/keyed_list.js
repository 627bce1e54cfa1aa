/**
 * @template T
 * @typedef {{ element: Element, update: (value: T) => void }} Item
 */

/**
 * Children of one parent, each for one key: kept, moved and updated, never rebuilt. An item whose value is the same object
 * as before is not touched.
 *
 * @template T
 */
export class KeyedList {
  #parent;
  #create;
  /** @type {Map<string, { item: Item<T>, value: T }>} */
  #held = new Map();

  /**
   * @param {Element} parent
   * @param {(key: string) => Item<T>} create
   */
  constructor(parent, create) {
    this.#parent = parent;
    this.#create = create;
  }

  /**
   * @param {readonly (readonly [string, T])[]} entries in the order in which they are shown
   * @param {{ all?: boolean }} options `all`: update items of the same value too
   */
  update(entries, { all = false } = {}) {
    this.#removeAllBut(new Set(entries.map(([key]) => key)));
    let next = this.#parent.firstElementChild;
    for (const [key, value] of entries) {
      const { element } = this.#item(key, value, all);
      if (element === next) next = next.nextElementSibling;
      else this.#parent.insertBefore(element, next);
    }
  }

  /** @param {Set<string>} keys */
  #removeAllBut(keys) {
    for (const [key, { item }] of this.#held) {
      if (keys.has(key)) continue;
      item.element.remove();
      this.#held.delete(key);
    }
  }

  /**
   * @param {string} key
   * @param {T} value
   * @param {boolean} anyway
   */
  #item(key, value, anyway) {
    const held = this.#held.get(key);
    if (held?.value === value && !anyway) return held.item;
    const item = held?.item ?? this.#create(key);
    item.update(value);
    this.#held.set(key, { item, value });
    return item;
  }
}
