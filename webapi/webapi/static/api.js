// Requests to the two services. The key is kept for this tab only, and sent with each.

const KEY = "bulksms-key";

let salesapiUrl = "";

/** An error response of a service (RFC 9457); status 0 if it did not answer. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the service answered with status ${status}`);
    this.status = status;
    this.body = body;
  }
}

/** Dispatches "needs-key" when a service answers 401. */
export const events = new EventTarget();

export const getKey = () => sessionStorage.getItem(KEY) ?? "";

export function setKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** Loads the address of salesapi; call it first. */
export async function start() {
  salesapiUrl = (await webapi("/config.json")).salesapi_url;
}

export const webapi = (path, options) => request("webapi", path, options);
export const salesapi = (path, options) => request("salesapi", salesapiUrl + path, options);
export const salesapiLink = (path) => salesapiUrl + path;

export const post = (body) => ({ method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });

async function request(service, url, options = {}) {
  const response = await send(service, url, options);
  if (response.ok) return response.status === 204 ? null : response.json();
  const body = await response.json().catch(() => ({}));
  if (response.status === 401) {
    events.dispatchEvent(new Event("needs-key"));
    body.detail = "the server needs a valid API key: enter it under API key, above";
  }
  throw new Problem(response.status, body);
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

/** Saves a response as a file, since a link cannot send the key. */
export async function download(path, name) {
  const response = await send("salesapi", salesapiUrl + path, {});
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
