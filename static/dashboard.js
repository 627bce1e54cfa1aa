/** The dashboard: one account's client, and the elements of the page that show it. */

import { connect } from "./client.js";
import { AlertsElement } from "./elements/alerts.js";
import { AnnouncerElement } from "./elements/announcer.js";
import { BreachesElement } from "./elements/breaches.js";
import { ConnectionElement } from "./elements/connection_state.js";
import { DrawdownElement } from "./elements/drawdown.js";
import { EventsElement } from "./elements/events.js";
import { signed } from "./elements/format.js";
import { NoticeElement } from "./elements/notice.js";
import { PositionsElement } from "./elements/positions.js";
import { ProfitElement } from "./elements/profit.js";
import { SignInElement } from "./elements/sign_in.js";
import { SyncElement } from "./elements/sync.js";
import { Tokens } from "./elements/tokens.js";

const TICK_MS = 250;

const ELEMENTS = {
  "gw-connection": ConnectionElement,
  "gw-notice": NoticeElement,
  "gw-announcer": AnnouncerElement,
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
  ask: (problem) => signIn.ask(problem),
  storage: sessionStorage,
  fetch,
});
const account = connect({ token: (reason) => tokens.next(reason), warn() {} });

/** @returns {import("./elements/view.js").View} */
function view() {
  return {
    state: account.state ?? {},
    level: account.freshness,
    connection: account.connection,
    online: navigator.onLine,
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
  title(now);
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
}

/** @param {import("./elements/view.js").View} now */
function title({ level, state }) {
  const pnl = state.positions?.total_unrealized_pnl;
  const headline = level === "connected" && pnl !== undefined ? `${signed(pnl)} ${state.positions?.currency ?? ""}` : level;
  document.title = account.state === null ? "Guardwire" : `${headline.trim()} · Guardwire`;
}

function leave() {
  tokens.forget();
  location.reload();
}

for (const event of /** @type {const} */ (["change", "freshness", "connection"])) account.on(event, plan);
signOut.addEventListener("click", leave);
document.querySelector("gw-notice button")?.addEventListener("click", () => {
  if (account.connection.phase === "closed") leave();
  else account.reconnect();
});
setInterval(tick, TICK_MS);
plan();
