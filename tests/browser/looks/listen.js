// Notes in `window.announced` what a screen reader would read out from now on.
() => {
  window.announced = [];
  const regions = document.querySelectorAll("[role=status], [role=alert], [aria-live]:not([aria-live=off])");
  for (const region of regions) {
    const listen = new MutationObserver(() => window.announced.push(region.textContent));
    listen.observe(region, { childList: true, characterData: true, subtree: true });
  }
}
