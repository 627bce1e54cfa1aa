/** The opt-in is kept for the next visit; nothing is kept without one. */
const KEPT_AS = "guardwire.alarm.";
/** An alarm that sounds once is missed. */
const SOUND_EVERY_MS = 10_000;
const TONES_HZ = [880, 660, 880];
const TONE_SECONDS = 0.18;

/** Calls somebody who does not look at the page: a notification of the browser and a sound, each if it was asked for. */
export class AlarmCalls {
  #storage;
  #notify;
  #sound;
  #hint;
  /** @type {AudioContext | null} */
  #audio = null;
  /** The keys that were notified of already. @type {Set<string>} */
  #notified = new Set();
  #soundedAtMs = -Infinity;

  /**
   * @param {object} parts
   * @param {HTMLInputElement} parts.notify
   * @param {HTMLInputElement} parts.sound
   * @param {HTMLElement} parts.hint shown while the browser keeps the page silent
   * @param {Storage} parts.storage
   */
  constructor({ notify, sound, hint, storage }) {
    this.#notify = notify;
    this.#sound = sound;
    this.#hint = hint;
    this.#storage = storage;
    const canNotify = "Notification" in globalThis;
    /** @type {HTMLElement} */ (notify.parentElement).hidden = !canNotify;
    notify.checked = canNotify && storage.getItem(`${KEPT_AS}notify`) === "on" && Notification.permission === "granted";
    sound.checked = storage.getItem(`${KEPT_AS}sound`) === "on";
    notify.addEventListener("change", () => void this.#askToNotify());
    sound.addEventListener("change", () => {
      this.#keep("sound", sound.checked);
      if (sound.checked) this.#play();
    });
  }

  /**
   * Calls for what is new, and goes on sounding until nothing is left.
   *
   * @param {readonly { key: string, title: string, body: string }[]} urgent nobody has answered these
   */
  call(urgent) {
    for (const { key, title, body } of urgent) {
      if (this.#notified.has(key)) continue;
      this.#notified.add(key);
      if (this.#notify.checked) new Notification(title, { body, tag: key, requireInteraction: true });
    }
    // Browsers let a page make a sound only after the user has touched it.
    const isSilent = this.#sound.checked && !navigator.userActivation.hasBeenActive;
    this.#hint.hidden = !isSilent;
    if (urgent.length === 0) this.#soundedAtMs = -Infinity;
    else if (this.#sound.checked && !isSilent && performance.now() - this.#soundedAtMs >= SOUND_EVERY_MS) this.#play();
  }

  async #askToNotify() {
    if (this.#notify.checked) this.#notify.checked = (await Notification.requestPermission()) === "granted";
    this.#keep("notify", this.#notify.checked);
  }

  /**
   * @param {string} name
   * @param {boolean} isOn
   */
  #keep(name, isOn) {
    if (isOn) this.#storage.setItem(KEPT_AS + name, "on");
    else this.#storage.removeItem(KEPT_AS + name);
  }

  #play() {
    this.#soundedAtMs = performance.now();
    this.#audio ??= new AudioContext();
    void this.#audio.resume();
    TONES_HZ.forEach((hertz, index) => tone(/** @type {AudioContext} */ (this.#audio), hertz, index * TONE_SECONDS));
  }
}

/**
 * @param {AudioContext} audio
 * @param {number} hertz
 * @param {number} inSeconds
 */
function tone(audio, hertz, inSeconds) {
  const [oscillator, volume] = [audio.createOscillator(), audio.createGain()];
  oscillator.frequency.value = hertz;
  volume.gain.value = 0.2;
  oscillator.connect(volume).connect(audio.destination);
  oscillator.start(audio.currentTime + inSeconds);
  oscillator.stop(audio.currentTime + inSeconds + TONE_SECONDS * 0.9);
}
