/**
 * Headers and address of one request for the state over HTTP.
 *
 * @param {string | URL} url
 * @param {string} path relative to `url`
 * @param {import("./links.js").LinkOptions} options
 */
export function request(url, path, { token, channels }) {
  const address = new URL(path, url);
  address.searchParams.set("channels", channels.join(","));
  return { address, headers: new Headers({ Authorization: `Bearer ${token}` }) };
}

/**
 * `epoch:revision`, null when there is nothing to resume from. Over HTTP the server takes it that the channels asked for
 * are those that are held, so with others there is nothing to resume from either.
 *
 * @param {import("./links.js").LinkOptions} options
 */
export function resumePoint({ resume, channels }) {
  if (!resume || resume.channels.length !== channels.length) return null;
  if (!channels.every((channel) => resume.channels.includes(channel))) return null;
  return `${resume.epoch}:${resume.revision}`;
}
