// Things to operate and pictures that have no name.
() => {
  const things = document.querySelectorAll("button, input, textarea, a, svg:not([aria-hidden])");
  const named = (thing) => thing.textContent.trim() || thing.getAttribute("aria-label") || thing.labels?.length;
  return [...things].filter((thing) => !named(thing)).map((thing) => thing.outerHTML);
}
