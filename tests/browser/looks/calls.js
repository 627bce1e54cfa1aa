// Notes in `window.called` the notifications and sounds of the page, which go on to the browser.
window.called = { notifications: [], sounds: 0 };
window.Notification = class extends window.Notification {
  constructor(title, options) {
    super(title, options);
    window.called.notifications.push(title);
  }
};
const { createOscillator } = window.AudioContext.prototype;
window.AudioContext.prototype.createOscillator = function () {
  window.called.sounds += 1;
  return createOscillator.call(this);
};
