/** Shown in place of a value that is not known. */
export const UNKNOWN = "–";

const MINUS = "\u2212";
const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** @type {Map<string, Intl.NumberFormat>} */
const formats = new Map();

/**
 * @param {number | undefined} value
 * @param {number} decimals shown at least
 * @param {number} mostDecimals shown at most
 */
export function number(value, decimals = 0, mostDecimals = decimals) {
  if (value === undefined) return UNKNOWN;
  const key = `${decimals}-${mostDecimals}`;
  const format =
    formats.get(key) ??
    new Intl.NumberFormat("en-US", {
      minimumFractionDigits: decimals,
      maximumFractionDigits: mostDecimals,
      signDisplay: "negative",
    });
  formats.set(key, format);
  return format.format(value).replace("-", MINUS);
}

/** @param {number | undefined} value */
export function money(value) {
  return number(value, 2);
}

/** A number with its sign, because colour alone must never distinguish a gain from a loss. @param {number | undefined} value */
export function signed(value) {
  return value !== undefined && value > 0 ? `+${money(value)}` : money(value);
}

/** `gain`, `loss` or nothing. @param {number | undefined} value */
export function tone(value) {
  if (!value) return "";
  return value > 0 ? "gain" : "loss";
}

/** How many decimals a number was given with. @param {number | undefined} value */
export function decimalsOf(value) {
  const [digits = "", exponent = "0"] = String(value ?? "").split("e");
  return Math.max((digits.split(".")[1]?.length ?? 0) - Number(exponent), 0);
}

/** `14:05`, or the date when it is another day's. @param {string} iso */
export function day(iso) {
  const at = new Date(iso);
  if (at.toDateString() === new Date().toDateString()) return at.toLocaleTimeString("en-GB", { timeStyle: "short" });
  return at.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
}

/** Time of day, with the date when it is another day's. @param {string} iso @param {number} nowMs */
export function clock(iso, nowMs = Date.now()) {
  const at = new Date(iso);
  const time = at.toLocaleTimeString("en-GB");
  if (at.toDateString() === new Date(nowMs).toDateString()) return time;
  return `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${time.slice(0, 5)}`;
}

/** `0.3 s`, `12 s`, `4 min`, `2 h 5 min`, `3 d`. @param {number} ms */
export function duration(ms) {
  if (ms < 10 * SECOND_MS) return `${(ms / SECOND_MS).toFixed(1)} s`;
  if (ms < MINUTE_MS) return `${Math.floor(ms / SECOND_MS)} s`;
  if (ms < HOUR_MS) return `${Math.floor(ms / MINUTE_MS)} min`;
  if (ms < DAY_MS) return `${Math.floor(ms / HOUR_MS)} h ${Math.floor((ms % HOUR_MS) / MINUTE_MS)} min`;
  return `${Math.floor(ms / DAY_MS)} d`;
}

/** `1:05`; never below zero. @param {number} ms */
export function countdown(ms) {
  const seconds = Math.max(0, Math.ceil(ms / SECOND_MS));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
