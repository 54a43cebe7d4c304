// One WebSocket: this browser in one room. It comes back by itself, says which message it knew last, and sends again
// what the server has not confirmed; each message has an id of ours, so that one which did arrive is not shown twice.

import { compareIds, randomId } from "./format.js";

const SHORTEST = 300; // ms until the next try; doubled each time
const LONGEST = 8_000;
const QUIET = 15_000; // ms after which the server is asked whether it is there
const ANSWER = 8_000; // ms that it has to answer

export class Connection {
  // `hear(event)` gets each event of the server, `change()` is called when `state` or `retryAt` has changed.
  constructor(user, room, hear, change) {
    Object.assign(this, { user, room, hear, change });
    this.state = "connecting"; // then "open", "waiting" for the next try, or "closed" for good
    this.retryAt = 0;
    this.lastId = null; // of the last message that everyone in the room got
    this.outbox = new Map(); // our id → what to send
    this.failures = 0;
    this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.set("connecting");
    const address = new URL("chat", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = new URLSearchParams({ user: this.user, room: this.room, ...(this.lastId && { since: this.lastId }) });
    const socket = new WebSocket(address);
    this.socket = socket;
    socket.onmessage = ({ data }) => socket === this.socket && this.receive(JSON.parse(data));
    socket.onclose = () => socket === this.socket && this.lost();
    this.watch();
  }

  receive(event) {
    if (event.event === "refused") return this.refuse(event);
    if (event.event === "joined") {
      this.failures = 0;
      this.set("open");
    }
    this.watch();
    if (event.event === "sent") this.outbox.delete(event.client_id);
    if (event.event === "error" && event.again) return void setTimeout(() => this.resend(event.client_id), 2_000);
    if (event.event === "error") this.outbox.delete(event.client_id);
    this.hear(event);
    // After hearing: messages that were confirmed only by being in the history are not sent again.
    if (event.event === "joined") for (const wish of this.outbox.values()) this.put(wish);
  }

  // A message that has been seen need not be sent again, and the next connection goes on behind it.
  seen(message) {
    if (message.user === this.user && message.client_id) this.outbox.delete(message.client_id);
    if (message.id && (!this.lastId || compareIds(message.id, this.lastId) > 0)) this.lastId = message.id;
  }

  send(text, to = null, id = randomId()) {
    const wish = { do: "send", text, id, ...(to && { to }) };
    this.outbox.set(id, wish);
    if (this.state === "open") this.put(wish);
    return id;
  }

  resend(id) {
    const wish = this.outbox.get(id);
    if (wish && this.state === "open") this.put(wish);
  }

  put(wish) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(wish));
  }

  refuse(event) {
    this.close();
    this.hear(event);
  }

  lost() {
    clearTimeout(this.timer);
    if (this.state === "closed") return;
    const pause = Math.min(LONGEST, SHORTEST * 2 ** this.failures++) * (0.5 + Math.random() / 2);
    this.retryAt = Date.now() + pause;
    this.set("waiting");
    this.timer = setTimeout(() => this.open(), pause);
  }

  // Now, and not when the pause is over: the network is back, or somebody has asked for it.
  retry() {
    if (this.state === "waiting") this.open();
  }

  // A network that is gone says nothing: ask when it is quiet, and hang up when there is no answer.
  watch() {
    clearTimeout(this.timer);
    const giveUp = () => {
      const socket = this.socket;
      this.socket = null; // its end will be heard late, and is no news then
      socket.close();
      this.lost();
    };
    const ask = () => {
      this.put({ do: "ping" });
      this.timer = setTimeout(giveUp, ANSWER);
    };
    this.timer = this.state === "open" ? setTimeout(ask, QUIET) : setTimeout(giveUp, ANSWER);
  }

  close() {
    clearTimeout(this.timer);
    this.set("closed");
    this.socket?.close();
  }

  set(state) {
    this.state = state;
    this.change();
  }
}
