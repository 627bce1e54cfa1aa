import { fromResponse, isProblem } from "./endings.js";

/** A problem document has a few hundred bytes, so a longer body is none. */
const MAX_PROBLEM_CHARACTERS = 65_536;
const MAX_DETAIL_CHARACTERS = 200;

/**
 * Options of every request. A redirect fails it, in browsers and in Node.js: a token is meant for one address alone.
 *
 * @type {RequestInit}
 */
export const ONE_ADDRESS = Object.freeze({ cache: "no-store", redirect: "error" });

/**
 * Headers and address of one request for the state over HTTP.
 *
 * @param {string | URL} url
 * @param {string} path relative to `url`
 * @param {import("./link.js").LinkOptions} options
 */
export function request(url, path, { token, channels }) {
  const address = new URL(path, url);
  address.searchParams.set("channels", channels.join(","));
  return { address, headers: new Headers({ Authorization: `Bearer ${token}` }) };
}

/**
 * `epoch:revision`; null when there is nothing to resume from. Over HTTP the server assumes that the client holds exactly the
 * channels that it asks for, so a client that holds others gets null too.
 *
 * @param {import("./link.js").LinkOptions} options
 */
export function resumeText({ resume, channels }) {
  if (!resume || resume.channels.length !== channels.length) return null;
  if (!channels.every((channel) => resume.channels.includes(channel))) return null;
  return `${resume.epoch}:${resume.revision}`;
}

/**
 * The ending of a refused request: its status, and the sentence of the problem document that came with it.
 *
 * @param {Response} response
 */
export async function refusalOf(response) {
  return fromResponse(response, isProblem(response.headers) ? await problemDetail(response) : "");
}

/** The `detail` of a problem document; "" for any other body. @param {Response} response */
async function problemDetail({ body }) {
  if (!body) return "";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
    if (text.length > MAX_PROBLEM_CHARACTERS) {
      void reader.cancel();
      return "";
    }
  }
  try {
    const detail = JSON.parse(text)?.detail;
    return typeof detail === "string" ? detail.slice(0, MAX_DETAIL_CHARACTERS) : "";
  } catch {
    return "";
  }
}
