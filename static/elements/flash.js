const FLASH_MS = 900;

/** @type {WeakMap<HTMLElement, ReturnType<typeof setTimeout>>} */
const running = new WeakMap();

/**
 * Lets a cell glow for a moment. The style sheet defines how, and leaves it still where the user prefers reduced motion.
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
