/**
 * Which alerts ask for somebody now, as one reader after another takes them. `guardwire/turns.py` passes the same vectors
 * (`tests/vectors/alerts.json`).
 *
 * @typedef {import("../state.js").Alert} Alert
 * @typedef {{ generation: number, number: number, isAcknowledged: boolean, atRevision: number }} Turn
 */

/**
 * Numbers the occasions on which alerts ask for somebody: a new generation, and an acknowledgement that is over. It sees every
 * state, so a reader that was busy learns of an acknowledgement that came and went meanwhile.
 */
export class Turns {
  /** @type {Map<string, Turn>} */
  #turns = new Map();
  #count = 0;
  #epoch = 0;

  /** The number of the alert's present turn; undefined when it is not in the state. @param {string} id */
  number(id) {
    return this.#turns.get(id)?.number;
  }

  /**
   * Takes the open alerts of the state at a revision.
   *
   * @param {{ [id: string]: Alert }} open
   * @param {{ epoch: number, revision: number }} position
   */
  receive(open, { epoch, revision }) {
    const isOtherHistory = epoch !== this.#epoch;
    this.#epoch = epoch;
    const turns = new Map();
    for (const [id, alert] of Object.entries(open)) {
      const known = this.#turns.get(id);
      const isAcknowledged = alert.acknowledged_by !== undefined;
      const atRevision = isOtherHistory ? 0 : (known?.atRevision ?? 0);
      const { generation } = alert;
      if (!known || known.generation !== generation) {
        turns.set(id, { generation, number: (this.#count += 1), isAcknowledged, atRevision: 0 });
      } else if (known.isAcknowledged && !isAcknowledged && revision >= atRevision) {
        turns.set(id, { generation, number: (this.#count += 1), isAcknowledged: false, atRevision: 0 });
      } else {
        turns.set(id, { ...known, isAcknowledged: isAcknowledged || known.isAcknowledged, atRevision });
      }
    }
    this.#turns = turns;
  }

  /**
   * Notes that an acknowledgement is committed, which the state shows from that revision on.
   *
   * @param {string} id
   * @param {number} generation
   * @param {number} revision
   */
  noteAcknowledged(id, generation, revision) {
    const turn = this.#turns.get(id);
    if (turn?.generation === generation) this.#turns.set(id, { ...turn, isAcknowledged: true, atRevision: revision });
  }
}

/** The alerts that one reader has taken. */
export class AlertReader {
  #turns;
  #name;
  /** @type {Map<string, number | undefined>} */
  #taken = new Map();

  /**
   * @param {Turns} turns
   * @param {() => string | null} name the reader's own, null for none
   */
  constructor(turns, name) {
    this.#turns = turns;
    this.#name = name;
  }

  /**
   * The most urgent alert that this reader has not taken in its present turn; null for none. An alert that somebody else has
   * acknowledged is left to them.
   *
   * @param {{ [id: string]: Alert }} open
   * @returns {[string, Alert] | null}
   */
  take(open) {
    for (const id of this.#taken.keys()) if (!Object.hasOwn(open, id)) this.#taken.delete(id);
    const name = this.#name();
    const left = Object.entries(open).filter(([id, { acknowledged_by: by }]) => {
      return (by === undefined || by === name) && this.#taken.get(id) !== this.#turns.number(id);
    });
    const [first] = left.sort(([, one], [, other]) => (urgency(one) < urgency(other) ? -1 : 1));
    if (!first) return null;
    this.#taken.set(first[0], this.#turns.number(first[0]));
    return first;
  }
}

/** A text that sorts the most urgent alert first. @param {Alert} alert */
function urgency({ resolved_at, severity, deadline_at, raised_at }) {
  return [resolved_at === undefined ? 0 : 1, severity === "critical" ? 0 : 1, deadline_at ?? "~", raised_at].join(" ");
}
