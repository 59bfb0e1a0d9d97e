// The WebSocket: credit and campaigns of a workspace, now and as they change; connects again for as long as it takes.

import { events, getKey } from "./api.js";

const LONGEST = 5000; // ms between two tries
const REFUSED = 1008; // close code of a server that wants another key

/** Tells "credit" and "campaign" (the state in `detail`), "mistake" (a text), and "state": live, lost or refused. */
export class Live extends EventTarget {
  #workspace = "";
  #socket = null;
  #timer = 0;
  #wait = 250;

  constructor() {
    super();
    addEventListener("online", () => this.#workspace && this.#connect()); // what was open before may never say it is dead
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
    socket.onmessage = (message) => socket === this.#socket && this.#hear(JSON.parse(message.data));
    socket.onclose = (event) => socket === this.#socket && this.#lost(event);
  }

  #hear(told) {
    this.#wait = 250;
    this.#tell("state", "live");
    if (told.error) this.#tell("mistake", told.error);
    else if (told.campaign) this.#tell("campaign", told.campaign);
    else if (told.workspace_id) this.#tell("credit", told);
  }

  #lost(event) {
    this.#socket = null;
    if (event.code === REFUSED) {
      this.#tell("state", "refused");
      events.dispatchEvent(new Event("needs-key"));
      return;
    }
    this.#tell("state", "lost");
    this.#timer = setTimeout(() => this.#connect(), this.#wait * (0.5 + Math.random() / 2));
    this.#wait = Math.min(this.#wait * 2, LONGEST);
  }

  #tell(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}
