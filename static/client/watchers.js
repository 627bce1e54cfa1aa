/**
 * @typedef {readonly string[]} Path
 * @typedef {(path: Path, now: any, old: any) => void} ChangeListener `undefined` stands for absent
 * @typedef {{ pattern: Path, listener: ChangeListener }} Watcher
 */

const ANY = "*";

/**
 * Calls a listener once for each value at its pattern that differs between two states. `*` stands for any one key.
 * Unchanged parts are the same objects in both, so this costs what changed and not what there is.
 *
 * @param {unknown} old
 * @param {unknown} now
 * @param {Watcher} watcher
 * @param {number} depth
 * @param {Path} path
 */
export function notify(old, now, { pattern, listener }, depth = 0, path = []) {
  if (old === now) return;
  const segment = pattern[depth];
  if (segment === undefined) {
    listener(path, now, old);
    return;
  }
  for (const key of segment === ANY ? keysOf(old, now) : [segment]) {
    notify(valueAt(old, key), valueAt(now, key), { pattern, listener }, depth + 1, [...path, key]);
  }
}

/**
 * `"positions.open.*"` or `["guards", "alerts", "US30.cash:price_gap"]` (for keys that hold a dot) as a path.
 *
 * @param {string | Path} pattern
 * @returns {Path}
 */
export function parsePattern(pattern) {
  if (typeof pattern !== "string") return [...pattern];
  return pattern === "" ? [] : pattern.split(".");
}

/** @param {unknown[]} values */
function keysOf(...values) {
  return new Set(values.flatMap((value) => (typeof value === "object" && value !== null ? Object.keys(value) : [])));
}

/**
 * @param {unknown} value
 * @param {string} key
 * @returns {unknown}
 */
function valueAt(value, key) {
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
  return /** @type {{ [key: string]: unknown }} */ (value)[key];
}
