import { clock } from "./format.js";
import { KeyedList } from "./keyed_list.js";
import { fromTemplate, partsOf, write } from "./parts.js";

/**
 * One line of a list: what, when, and more.
 *
 * @typedef {object} Line
 * @property {string} title
 * @property {string} at ISO 8601
 * @property {string} detail
 * @property {string} tag a word that must not be missed; empty when there is none
 * @property {string} kind for the style sheet
 */

/**
 * A list of such lines for the records of a collection.
 *
 * @template T
 * @param {HTMLElement} list
 * @param {(record: T) => Line} describe
 * @returns {KeyedList<T>}
 */
export function entryList(list, describe) {
  return new KeyedList(list, () => {
    const element = fromTemplate("entry");
    const parts = partsOf(element);
    return { element, update: (record) => show(element, parts, describe(record)) };
  });
}

/** Those that there are, side by side. @param {(string | false | undefined)[]} known */
export function facts(...known) {
  return known.filter(Boolean).join(" \u00b7 ");
}

/**
 * @param {HTMLElement} element
 * @param {{ [name: string]: HTMLElement }} parts
 * @param {Line} line
 */
function show(element, { title, tag, time, detail }, line) {
  element.dataset.kind = line.kind;
  write(title, line.title);
  write(detail, line.detail);
  write(tag, line.tag);
  if (tag) tag.hidden = line.tag === "";
  write(time, clock(line.at));
  time?.setAttribute("datetime", line.at);
}
