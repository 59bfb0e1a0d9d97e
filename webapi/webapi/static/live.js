// The WebSocket: a workspace's credit and campaigns, now and whenever they change; reconnects until it succeeds.

import { events, getKey } from "./api.js";

const MAX_DELAY = 5000; // ms before a reconnect
const POLICY_VIOLATION = 1008; // close code (RFC 6455): the key is not valid

/** Dispatches "credit" and "campaign" (the new state in `detail`), "error" (a text), and "state": live, lost or refused. */
export class Live extends EventTarget {
  #workspace = "";
  #socket = null;
  #timer = 0;
  #delay = 250;

  constructor() {
    super();
    addEventListener("online", () => this.#workspace && this.#connect()); // a connection from before may be dead without a close event
    document.addEventListener("visibilitychange", () => !document.hidden && !this.#socket && this.#workspace && this.#connect());
  }

  watch(workspace) {
    this.#workspace = workspace;
    this.#connect();
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#socket?.close();
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
    this.#socket = socket;
    socket.onopen = () => {
      if (getKey()) socket.send(JSON.stringify({ key: getKey() }));
      socket.send(JSON.stringify({ workspace_id: this.#workspace, campaigns: true }));
    };
    socket.onmessage = (message) => socket === this.#socket && this.#receive(JSON.parse(message.data));
    socket.onclose = (event) => socket === this.#socket && this.#lost(event);
  }

  #receive(message) {
    this.#delay = 250;
    this.#dispatch("state", "live");
    if (message.error) this.#dispatch("error", message.error);
    else if (message.campaign) this.#dispatch("campaign", message.campaign);
    else if (message.workspace_id) this.#dispatch("credit", message);
  }

  #lost(event) {
    this.#socket = null;
    if (event.code === POLICY_VIOLATION) {
      this.#dispatch("state", "refused");
      events.dispatchEvent(new Event("needs-key"));
      return;
    }
    this.#dispatch("state", "lost");
    this.#timer = setTimeout(() => this.#connect(), this.#delay * (0.5 + Math.random() / 2));
    this.#delay = Math.min(this.#delay * 2, MAX_DELAY);
  }

  #dispatch(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}
