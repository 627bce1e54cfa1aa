// Texts in a small box of their own, with a frame or a ground and round corners, that are no buttons.
() => {
  const WIDEST_PX = 300;
  const shows = (colour) => !/^rgba\(.*, 0\)$/.test(colour) && colour !== "transparent";
  const boxed = [...document.querySelectorAll("body *")].filter((element) => {
    if (!element.checkVisibility() || !element.textContent.trim()) return false;
    if (element.closest("button, input, select, textarea, .skip, svg")) return false;
    const style = getComputedStyle(element);
    const framed = parseFloat(style.borderTopWidth) > 0 && parseFloat(style.borderBottomWidth) > 0;
    const isRound = parseFloat(style.borderTopLeftRadius) > 0;
    const isSmall = element.getBoundingClientRect().width < WIDEST_PX && !element.matches(".card");
    return isSmall && isRound && (framed || shows(style.backgroundColor));
  });
  return boxed.map((element) => `${element.className} ${element.textContent.trim()}`);
}
