/**
 * JSON Merge Patch (RFC 7396) on immutable JSON values.
 *
 * Nothing is ever changed in place, and every part that a patch leaves equal is the very same object afterwards. `!==` between two
 * states therefore finds exactly the parts that changed, at any depth, without comparing contents.
 *
 * @typedef {string | number | boolean | null | Json[] | { [key: string]: Json }} Json
 * @typedef {{ readonly [key: string]: Json }} JsonObject
 */

/** @type {JsonObject} */
const EMPTY = Object.freeze({});

/**
 * @param {unknown} value
 * @returns {value is JsonObject}
 */
export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * The value after the patch; equal parts are shared with `target`.
 *
 * @param {Json | undefined} target undefined where there was nothing
 * @param {Json} patch
 * @returns {Json}
 */
export function apply(target, patch) {
  if (!isObject(patch)) return equal(target, patch) ? /** @type {Json} */ (target) : patch;
  const before = isObject(target) ? target : EMPTY;
  /** @type {Map<string, Json> | undefined} */
  let after;
  for (const [key, value] of Object.entries(patch)) {
    const held = Object.hasOwn(before, key) ? before[key] : undefined;
    const next = value === null ? undefined : apply(held, value);
    if (next === held) continue;
    after ??= new Map(Object.entries(before));
    if (next === undefined) after.delete(key);
    else after.set(key, next);
  }
  if (after === undefined) return isObject(target) ? target : {};
  // Not by assignment: a key named `__proto__` is a key like any other here.
  return Object.fromEntries(after);
}

/**
 * `next`, with every part that is equal to its counterpart in `held` replaced by that counterpart.
 *
 * @template {Json} T
 * @param {Json | undefined} held
 * @param {T} next
 * @returns {T}
 */
export function reuse(held, next) {
  if (held === next || equal(held, next)) return /** @type {T} */ (held);
  if (!isObject(held) || !isObject(next)) return next;
  const entries = Object.entries(next).map(([key, value]) => [
    key,
    Object.hasOwn(held, key) ? reuse(held[key], value) : value,
  ]);
  return /** @type {T} */ (Object.fromEntries(entries));
}

/**
 * Whether two JSON values are equal; the order of keys does not count, the order of lists does.
 *
 * @param {Json | undefined} left
 * @param {Json | undefined} right
 * @returns {boolean}
 */
export function equal(left, right) {
  if (left === right) return true;
  if (Array.isArray(left) && Array.isArray(right)) {
    return left.length === right.length && left.every((item, index) => equal(item, right[index]));
  }
  if (!isObject(left) || !isObject(right)) return false;
  const keys = Object.keys(left);
  if (keys.length !== Object.keys(right).length) return false;
  return keys.every((key) => Object.hasOwn(right, key) && equal(left[key], right[key]));
}
