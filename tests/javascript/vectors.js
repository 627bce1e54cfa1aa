import { readFileSync } from "node:fs";

/**
 * A file of tests/vectors.
 *
 * @param {string} name
 */
export function vectors(name) {
  return JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), "utf8"));
}
