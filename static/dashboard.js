/** The dashboard: one account's client, and the elements of the page that show it. */

import { connect } from "./client.js";
import { AlarmElement, alarmOf } from "./elements/alarm.js";
import { AlarmCalls } from "./elements/alarm_calls.js";
import { AlertRequests } from "./elements/alert_requests.js";
import { AlertsElement } from "./elements/alerts.js";
import { AnnouncerElement } from "./elements/announcer.js";
import { BreachesElement } from "./elements/breaches.js";
import { ConnectionElement } from "./elements/connection_state.js";
import { DrawdownElement } from "./elements/drawdown.js";
import { EventsElement } from "./elements/events.js";
import { signed } from "./elements/format.js";
import { NoticeElement } from "./elements/notice.js";
import { titleOf } from "./elements/open_alert.js";
import { OpenAlertsElement } from "./elements/open_alerts.js";
import { PositionsElement } from "./elements/positions.js";
import { ProfitElement } from "./elements/profit.js";
import { SignInElement } from "./elements/sign_in.js";
import { SyncElement } from "./elements/sync.js";
import { Tokens } from "./elements/tokens.js";
import { DEFAULT_CHANNELS } from "./messages.js";

const TICK_MS = 250;
/** A title that changes more often flickers, and some screen readers speak each change. */
const TITLE_MS = 1_000;
const ACK_SCOPE = "guards:ack";
const ICONS = { calm: "static/icon.svg", alarm: "static/icon-alarm.svg" };

const ELEMENTS = {
  "gw-connection": ConnectionElement,
  "gw-alarm": AlarmElement,
  "gw-notice": NoticeElement,
  "gw-announcer": AnnouncerElement,
  "gw-open-alerts": OpenAlertsElement,
  "gw-profit": ProfitElement,
  "gw-drawdown": DrawdownElement,
  "gw-sync": SyncElement,
  "gw-alerts": AlertsElement,
  "gw-positions": PositionsElement,
  "gw-breaches": BreachesElement,
  "gw-events": EventsElement,
};

customElements.define("gw-sign-in", SignInElement);
for (const [name, element] of Object.entries(ELEMENTS)) customElements.define(name, element);

const elements = /** @type {import("./elements/view.js").LiveElement[]} */ ([
  ...document.querySelectorAll(Object.keys(ELEMENTS).join()),
]);
const board = /** @type {HTMLElement} */ (document.getElementById("board"));
const signIn = /** @type {SignInElement} */ (document.querySelector("gw-sign-in"));
const signOut = /** @type {HTMLButtonElement} */ (document.getElementById("sign-out"));
const accountName = /** @type {HTMLElement} */ (document.getElementById("account"));

const tokens = new Tokens({
  url: document.querySelector("meta[name=guardwire-token-url]")?.getAttribute("content") ?? "",
  ask: (problem, reason) => signIn.ask(problem, { focus: reason === "connect" }),
  storage: sessionStorage,
  fetch,
});
const account = connect({
  token: (reason) => tokens.next(reason),
  channels: [...DEFAULT_CHANNELS, "alerts"],
  warn() {},
});
const openAlerts = /** @type {OpenAlertsElement} */ (document.querySelector("gw-open-alerts"));
openAlerts.requests = new AlertRequests({ token: () => tokens.next("connect"), fetch });
const calls = new AlarmCalls({
  notify: /** @type {HTMLInputElement} */ (document.getElementById("call-notify")),
  sound: /** @type {HTMLInputElement} */ (document.getElementById("call-sound")),
  hint: /** @type {HTMLElement} */ (document.getElementById("call-hint")),
  storage: localStorage,
});

/** @returns {import("./elements/view.js").View} */
function view() {
  return {
    state: account.state ?? {},
    level: account.freshness,
    connection: account.connection,
    online: navigator.onLine,
    isAsking: tokens.isAsking,
    canAcknowledge: tokens.scopes.includes(ACK_SCOPE),
    ageMs: account.ageMs,
    databaseNowMs: account.databaseNowMs ?? Date.now(),
  };
}

let planned = false;

/** At most once a frame, however fast the account changes. */
function plan() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(render);
}

function render() {
  if (!planned) return;
  planned = false;
  const now = view();
  document.documentElement.dataset.level = now.level;
  document.documentElement.dataset.source = now.state.status?.source ?? "";
  board.hidden = account.state === null;
  for (const element of elements) {
    element.render(now);
    element.tick?.(now);
  }
  report(now);
  const sub = tokens.account;
  accountName.hidden = sub === null;
  accountName.textContent = sub === null ? "" : `Account ${sub.slice(0, 8)}`;
  signOut.hidden = !tokens.pasted;
}

function tick() {
  // A hidden page has no frames, but a title that may be read.
  if (document.hidden) render();
  const now = view();
  for (const element of elements) element.tick?.(now);
  report(now);
}

let titledAtMs = -Infinity;
let titledKind = "";

/** Shows it in the title, the icon and notifications, for people who look elsewhere. @param {import("./elements/view.js").View} now */
function report(now) {
  const alarm = alarmOf(now);
  document.documentElement.toggleAttribute("data-alarm", alarm !== null);
  calls.call(urgentOf(now));
  const kind = `${now.level} ${alarm !== null} ${account.state === null}`;
  if (kind === titledKind && performance.now() - titledAtMs < TITLE_MS) return;
  [titledAtMs, titledKind] = [performance.now(), kind];
  document.title = [...headlines(now, alarm), "Guardwire"].join(" · ");
  const icon = ICONS[alarm ? "alarm" : "calm"];
  const link = document.querySelector("link[rel=icon]");
  if (link?.getAttribute("href") !== icon) link?.setAttribute("href", icon);
}

/** @param {import("./elements/view.js").View} now */
function urgentOf({ state: { alerts } }) {
  return Object.entries(alerts?.open ?? {})
    .filter(([, { severity, acknowledged_at, resolved_at }]) => severity === "critical" && !acknowledged_at && !resolved_at)
    .map(([id, alert]) => ({ key: `${id}.${alert.generation}`, title: titleOf(alert), body: "Guardwire: nobody has acknowledged it." }));
}

/**
 * @param {import("./elements/view.js").View} now
 * @param {import("./elements/alarm.js").Alarm | null} alarm
 */
function headlines({ level, state }, alarm) {
  if (account.state === null) return [];
  const pnl = state.positions?.total_unrealized_pnl;
  if (level !== "connected") return alarm ? [alarm.title, level] : [level];
  if (alarm) return [alarm.title];
  return pnl === undefined ? [level] : [`${signed(pnl)} ${state.positions?.currency ?? ""}`.trim()];
}

function leave() {
  tokens.forget();
  location.reload();
}

account.on("connection", ({ ending }) => ending?.verdict === "token" && tokens.reject(ending.reason));
for (const event of /** @type {const} */ (["change", "freshness", "connection"])) account.on(event, plan);
signOut.addEventListener("click", leave);
document.querySelector("gw-notice button")?.addEventListener("click", () => {
  if (tokens.isAsking) signIn.focusForm();
  else if (account.connection.phase === "closed") leave();
  else account.reconnect();
});
setInterval(tick, TICK_MS);
plan();
