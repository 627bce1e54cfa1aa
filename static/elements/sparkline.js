/** @typedef {import("./history.js").Sample} Sample */

const WIDTH = 600;
const HEIGHT = 100;
/** Room for the stroke at the edges. */
const MARGIN = 6;
/** A line is not stretched over the whole width before it covers this much time. */
const SHORTEST_SPAN_MS = 20_000;

/**
 * The paths of a sparkline in a box of 600 × 100: the line, broken where the value was not known, the area between it and
 * zero, the newest point, and the height of zero where it is in sight.
 *
 * @param {readonly Sample[]} samples
 * @param {number} nowMs
 * @returns {{ line: string, area: string, now: string, zero: number | null, low: number, high: number } | null}
 */
export function sparkline(samples, nowMs) {
  const known = samples.flatMap(({ value }) => value ?? []);
  const first = samples[0];
  if (known.length === 0 || !first) return null;
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const spanMs = Math.max(nowMs - first.atMs, SHORTEST_SPAN_MS);
  const middle = (low + high) / 2;
  // A value that hardly moves is a line in the middle, not noise blown up to the whole height.
  const range = Math.max(high - low, Math.abs(middle) * 0.001, 0.05);
  /** @param {number} value */
  const y = (value) => round(HEIGHT / 2 - ((value - middle) / range) * (HEIGHT - 2 * MARGIN));
  /** @param {number} atMs */
  const x = (atMs) => round(WIDTH - MARGIN - ((nowMs - atMs) / spanMs) * (WIDTH - MARGIN));
  const runs = runsOf(samples, nowMs).map((run) => run.map(({ atMs, value }) => [x(atMs), y(value)]));
  const zero = y(0) > 0 && y(0) < HEIGHT ? y(0) : null;
  const floor = zero ?? HEIGHT;
  const newest = samples.at(-1);
  return {
    line: runs.map((run) => `M${run.map((point) => point.join(" ")).join("L")}`).join(""),
    area: runs.map((run) => `M${run[0]?.[0]} ${floor}L${run.map((p) => p.join(" ")).join("L")}V${floor}Z`).join(""),
    now: newest && newest.value !== null ? `M${x(nowMs)} ${y(newest.value)}h0` : "",
    zero,
    low,
    high,
  };
}

/**
 * Stretches of known values; each holds until the next sample, and the last until now.
 *
 * @param {readonly Sample[]} samples
 * @param {number} nowMs
 */
function runsOf(samples, nowMs) {
  /** @type {{ atMs: number, value: number }[][]} */
  const runs = [];
  samples.forEach(({ atMs, value }, index) => {
    if (value === null) return;
    const untilMs = samples[index + 1]?.atMs ?? nowMs;
    const goesOn = index > 0 && samples[index - 1]?.value !== null;
    if (!goesOn) runs.push([]);
    runs.at(-1)?.push({ atMs, value });
    if (samples[index + 1]?.value === null || index === samples.length - 1) runs.at(-1)?.push({ atMs: untilMs, value });
  });
  return runs;
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 100) / 100;
}
