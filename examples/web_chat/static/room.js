// A room that this browser is in: its connection, who else is there, who is typing, and its conversations. The room's own
// conversation has the key "", one with a member has that member's name.

import { Connection } from "./connection.js";
import { Timeline } from "./timeline.js";

const TYPING_LASTS = 4_000; // ms after the last sign of it
const TYPING_EVERY = 2_500; // ms between two signs of ours

export class Room {
  // `page`: changed(room) when something is to be drawn again, added(talk), rooms(list),
  // refused(room, text), error(text), saw() when something was read.
  constructor(name, user, page, readTo) {
    Object.assign(this, { name, user, page });
    this.members = new Map(); // name → since when, in seconds
    this.typing = new Map(); // name → the timer that ends it
    this.talks = new Map();
    this.saidTyping = 0;
    this.back = null; // what came while we were away, until the banner has said it
    this.talk("").readTo = readTo;
    this.connection = new Connection(user, name, (event) => this.hear(event), () => this.connection && page.changed(this));
  }

  talk(peer) {
    const known = this.talks.get(peer);
    if (known) return known;
    const talk = new Timeline(this.user, peer || this.name, {
      older: () => this.older(peer),
      moved: () => this.page.saw(),
      retry: (entry) => this.send(peer, entry.message.text, entry.message.client_id),
    });
    this.talks.set(peer, talk);
    this.page.added(talk);
    talk.hasAsked = false; // direct messages are asked for once they are looked at, and when the connection is back
    return talk;
  }

  get main() {
    return this.talks.get("");
  }

  get unread() {
    return [...this.talks.values()].reduce((sum, talk) => sum + talk.unread, 0);
  }

  // From the server -------------------------------------------------------------------------------------------------

  hear(event) {
    switch (event.event) {
      case "joined": return this.joined(event);
      case "message": return this.heard(event.message);
      case "gap":
        this.page.error("Some messages are missing here.");
        return this.setMembers(event.members);
      case "rooms": return this.page.rooms(event.rooms);
      case "sent": return this.eachTalk((talk) => talk.confirm(event.client_id, event.id));
      case "history": return this.history(event);
      case "refused": return this.page.refused(this, event.text);
      case "error":
        this.eachTalk((talk) => talk.fail(event.client_id, event.text));
        if (!event.client_id) this.page.error(event.text);
    }
  }

  joined({ members, history, older, now }) {
    const first = !this.main.opened;
    this.main.opened = true;
    this.setMembers(members);
    this.back = first ? null : { since: Date.now(), until: now, count: 0 };
    const asked = this.connection.lastId; // what was said since then comes by itself
    this.main.loading = false; // what was asked for on the connection before this one is not answered any more
    if (!asked) this.main.begin(history, older);
    for (const message of history) this.connection.seen(message);
    for (const [peer, talk] of this.talks) if (peer && talk.hasAsked) this.older(peer, null);
    this.page.changed(this);
  }

  heard(message) {
    this.connection.seen(message);
    const { type, user } = message;
    if (typeof user !== "string") return; // published by hand
    if (type === "typing") return user === this.user ? undefined : this.isTyping(user);
    if (type === "join") this.members.set(user, message.timestamp);
    if (type === "leave" && user !== this.user) this.members.delete(user); // ours was the connection before this one
    this.notTyping(user);
    const peer = type !== "direct" ? "" : user === this.user ? message.to : user;
    this.count(message, this.talk(peer).add(message));
    this.page.changed(this);
  }

  count({ type, user, timestamp }, added) {
    const said = type === "message" || type === "direct";
    if (added && said && user !== this.user && this.back && timestamp <= this.back.until) this.back.count++;
  }

  setMembers(members) {
    this.members = new Map(members.map(({ user, since }) => [user, since]));
    this.page.changed(this);
  }

  history({ messages, before, with: peer, older }) {
    const talk = this.talk(peer ?? "");
    if (!peer || before) return talk.addOlder(messages, older);
    const first = !talk.entries.length;
    if (first) return talk.addOlder(messages, older);
    for (const message of messages) talk.add(message);
    talk.loading = false;
  }

  older(peer, before = this.talk(peer).older) {
    this.talk(peer).hasAsked = true;
    this.connection.put({ do: "history", ...(before && { before }), ...(peer && { with: peer }) });
  }

  isTyping(user) {
    clearTimeout(this.typing.get(user));
    this.typing.set(user, setTimeout(() => this.notTyping(user), TYPING_LASTS));
    this.page.changed(this);
  }

  notTyping(user) {
    clearTimeout(this.typing.get(user));
    if (this.typing.delete(user)) this.page.changed(this);
  }

  // To the server ---------------------------------------------------------------------------------------------------

  send(peer, text, id) {
    const sent = this.connection.send(text, peer || null, id);
    if (!id) this.talk(peer).addOwn(sent, text);
    this.saidTyping = 0;
  }

  sayTyping(peer) {
    if (peer) return; // all would hear it
    if (Date.now() - this.saidTyping < TYPING_EVERY) return;
    this.saidTyping = Date.now();
    this.connection.put({ do: "typing" });
  }

  close() {
    this.connection.close();
    for (const talk of this.talks.values()) talk.element.remove();
  }

  eachTalk(action) {
    for (const talk of this.talks.values()) action(talk);
  }
}
