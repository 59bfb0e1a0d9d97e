// Questions to the two services. The key is kept for this tab only, and sent with each.

const KEY = "bulksms-key";

let salesapiUrl = "";

/** What a service answered that is no success (RFC 9457), or that it did not answer: status 0. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the answer was ${status}`);
    this.status = status;
    this.body = body;
  }
}

/** Told of "needs-key" when a service refuses us for want of one. */
export const events = new EventTarget();

export const getKey = () => sessionStorage.getItem(KEY) ?? "";

export function setKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** Learns where salesapi is; comes first. */
export async function start() {
  salesapiUrl = (await webapi("/config.json")).salesapi_url;
}

export const webapi = (path, options) => ask("webapi", path, options);
export const salesapi = (path, options) => ask("salesapi", salesapiUrl + path, options);
export const salesapiLink = (path) => salesapiUrl + path;

export const post = (body) => ({ method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });

async function ask(service, url, options = {}) {
  const answer = await send(service, url, options);
  if (answer.ok) return answer.json();
  const body = await answer.json().catch(() => ({}));
  if (answer.status === 401) {
    events.dispatchEvent(new Event("needs-key"));
    body.detail = "this server needs a key that it knows: see API key, above";
  }
  throw new Problem(answer.status, body);
}

async function send(service, url, options) {
  const headers = { ...options.headers };
  if (getKey()) headers.Authorization = `Bearer ${getKey()}`;
  try {
    return await fetch(url, { ...options, headers });
  } catch {
    throw new Problem(0, { detail: `${service} does not answer; try again when it is back` });
  }
}

/** Saves what a service answers as a file; a link cannot send the key. */
export async function download(path, name) {
  const answer = await send("salesapi", salesapiUrl + path, {});
  if (!answer.ok) throw new Problem(answer.status, await answer.json().catch(() => ({})));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
