const FLASH_MS = 900;

/** @type {WeakMap<HTMLElement, ReturnType<typeof setTimeout>>} */
const running = new WeakMap();

/**
 * Lets a cell glow for a moment. What it looks like, and that it is still where motion is unwelcome, is the style sheet's.
 *
 * @param {HTMLElement} cell
 * @param {"up" | "down" | "new"} direction
 */
export function flash(cell, direction) {
  clearTimeout(running.get(cell));
  cell.dataset.flash = direction;
  // An animation that is under way begins anew.
  for (const animation of cell.getAnimations()) animation.currentTime = 0;
  running.set(
    cell,
    setTimeout(() => delete cell.dataset.flash, FLASH_MS),
  );
}
