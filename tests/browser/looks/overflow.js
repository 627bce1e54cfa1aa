// A page that is wider than its window, and texts that their own box does not show whole.
() => {
  const { scrollWidth, clientWidth } = document.documentElement;
  const texts = [...document.querySelectorAll("main *")].filter(
    (element) =>
      element.childElementCount === 0 &&
      element.textContent.trim() &&
      element.checkVisibility() &&
      !element.closest(".unseen, svg, thead") &&
      getComputedStyle(element).display !== "inline",
  );
  const cutOff = texts.filter((element) => element.scrollWidth > element.clientWidth + 1);
  return [
    ...(scrollWidth > clientWidth ? [`${scrollWidth - clientWidth} px too wide`] : []),
    ...cutOff.map((element) => `cut off: ${element.className} ${element.textContent.trim()}`),
  ];
}
