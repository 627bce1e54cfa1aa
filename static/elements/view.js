/**
 * The values that the page shows at one moment. Types only.
 *
 * @typedef {object} View
 * @property {import("../state.js").AccountState} state
 * @property {import("../client/mirror.js").Level} level
 * @property {import("../client/connection.js").ConnectionStatus} connection
 * @property {boolean} online whether this device has a network, as far as the browser knows
 * @property {boolean} [isAsking] whether the form for a token is open
 * @property {boolean} [canAcknowledge] whether the token has the scope for it
 * @property {number | null} ageMs of the state
 * @property {number} databaseNowMs the best there is: the database's time, else this machine's
 *
 * An element of the page: `render` when anything changed, `tick` four times a second for what only time moves.
 *
 * @typedef {HTMLElement & { render: (view: View) => void, tick?: (view: View) => void }} LiveElement
 */

export {};
