// One conversation as a list that scrolls: messages in the order of their ids, each once; ours that are not confirmed yet
// stand at the end. It stays at the bottom while one is there, and where it is when one reads further up.

import { compareIds, dayName, dayOf, fill, fullTime, isEmoji, listed, make, paint, timeOf } from "./format.js";

const TOGETHER = 5 * 60_000; // ms within which messages of one author stand together
const NEAR = 80; // pixels from the bottom that count as there
const STATES = { sending: "Sending", sent: "Sent", failed: "Not sent" };

export class Timeline {
  // `actions`: older() is called near the top, moved() when what is unread or the place has changed, retry(entry), drop(entry).
  constructor(me, label, actions) {
    Object.assign(this, { me, actions });
    this.entries = []; // {id, message, date, element, state}
    this.byId = new Map();
    this.byClient = new Map();
    this.older = ""; // before which id there may be more: "" if nobody has asked yet, null if there is nothing
    this.loading = false;
    this.active = false;
    this.unread = 0;
    this.readTo = null; // the id of the last message that was seen
    this.newFrom = null; // the first one that was not
    this.stuck = true; // at the bottom
    this.seenTop = 0; // scrollTop when it was last looked at
    this.element = make("div", "timeline");
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "log");
    this.element.setAttribute("aria-label", `Messages, ${label}`);
    this.top = make("p", "top");
    this.list = make("ol");
    this.element.append(this.top, this.list);
    this.element.addEventListener("scroll", () => this.scrolled(), { passive: true });
    const resized = new ResizeObserver(() => this.stuck && this.toBottom());
    resized.observe(this.element);
    resized.observe(this.list);
    this.show(false);
  }

  // What comes in ---------------------------------------------------------------------------------------------------

  // Returns whether it is new here. `fresh`: said just now or while we were away, so it may be unread.
  add(message, fresh = true) {
    if (!message.id || typeof message.user !== "string") return false; // published by hand, and not as ours
    if (isNotice({ message }) && message.user === this.me) return false; // one knows when one came and went
    const known = this.byId.get(message.id) ?? this.byClient.get(clientKey(message));
    if (known) {
      if (!known.id) this.settle(known, message);
      return false;
    }
    const entry = { id: message.id, message, date: dateOf(message), state: "sent" };
    this.draw(entry);
    this.place(entry);
    if (fresh) this.count(entry);
    return true;
  }

  // The first page; what has come since somebody was here last is new.
  begin(messages, older) {
    this.addOlder(messages, older);
    const isNew = (entry) => entry.id && compareIds(entry.id, this.readTo) > 0 && this.counts(entry);
    const unseen = this.readTo ? this.entries.filter(isNew) : [];
    this.unread = unseen.length;
    this.newFrom = unseen[0]?.id ?? null;
    this.refresh();
    if (this.active) this.show(true);
  }

  // Many at once, of before: what is on the screen does not move.
  addOlder(messages, older) {
    this.loading = false;
    this.older = older;
    const below = this.element.scrollHeight - this.element.scrollTop;
    this.element.ariaLive = "off"; // nothing of this is news
    for (const message of messages) this.add(message, false);
    this.sayTop();
    if (!this.stuck) this.element.scrollTop = this.element.scrollHeight - below;
    else this.toBottom();
    requestAnimationFrame(() => this.announce());
    requestAnimationFrame(() => this.scrolled()); // there may be room for still more
  }

  sayTop() {
    const begins = this.entries.some((entry) => !isNotice(entry)) ? "This is where it begins." : "Nothing has been said here yet.";
    this.top.textContent = this.loading ? "Looking for older messages…" : this.older === null ? begins : "";
  }

  // Ours, before the server has it.
  addOwn(clientId, text) {
    const message = { type: "message", user: this.me, text, client_id: clientId };
    const entry = { id: null, message, date: new Date(), state: "sending" };
    this.draw(entry);
    this.place(entry);
    this.newFrom = null;
    this.refresh();
    this.toBottom();
  }

  // The server has ours: `id` says where it stands.
  confirm(clientId, id) {
    const entry = this.byClient.get(clientKey({ user: this.me, client_id: clientId }));
    if (entry && !entry.id) this.settle(entry, { ...entry.message, id });
  }

  settle(entry, message) {
    Object.assign(entry, { id: message.id, message, date: dateOf(message), state: "sent" });
    this.entries.splice(this.entries.indexOf(entry), 1);
    this.place(entry);
    this.dress(entry);
  }

  fail(clientId, reason) {
    const entry = this.byClient.get(clientKey({ user: this.me, client_id: clientId }));
    if (!entry || entry.id) return;
    Object.assign(entry, { state: "failed", reason });
    this.dress(entry);
  }

  drop(entry) {
    this.entries.splice(this.entries.indexOf(entry), 1);
    this.byClient.delete(clientKey(entry.message));
    entry.element.remove();
    this.refresh();
  }

  // Order and grouping ----------------------------------------------------------------------------------------------

  place(entry) {
    let at = this.entries.length;
    if (entry.id) while (at && (!this.entries[at - 1].id || compareIds(this.entries[at - 1].id, entry.id) > 0)) at--;
    this.entries.splice(at, 0, entry);
    if (entry.id) this.byId.set(entry.id, entry);
    if (entry.message.client_id) this.byClient.set(clientKey(entry.message), entry);
    const next = this.entries[at + 1]?.element ?? null;
    if (!entry.element.isConnected || entry.element.nextSibling !== next) this.list.insertBefore(entry.element, next);
    for (const near of [at - 1, at, at + 1]) this.group(near);
    if (!at || this.entries.length < 5) this.sayTop();
  }

  refresh() {
    for (let at = 0; at < this.entries.length; at++) this.group(at);
  }

  // An entry says by itself whose it is and of which day only where that changes.
  group(at) {
    const [before, entry, after] = [this.entries[at - 1], this.entries[at], this.entries[at + 1]];
    if (!entry) return;
    const newDay = !before || dayOf(before.date) !== dayOf(entry.date);
    const newFrom = Boolean(entry.id) && entry.id === this.newFrom;
    let day = entry.element.querySelector(".day");
    if (newDay && !day) {
      day = make("div", "day");
      day.append(make("span", "", dayName(entry.date)));
      entry.element.prepend(day);
    } else if (!newDay) day?.remove();
    const unseen = entry.element.querySelector(".new");
    if (newFrom && !unseen) entry.element.querySelector(".row").before(make("div", "new", "New"));
    else if (!newFrom) unseen?.remove();
    entry.element.classList.toggle("first", newDay || newFrom || !together(before, entry));
    entry.element.classList.toggle("last", !after || after.id === this.newFrom || !together(entry, after));
    if (isNotice(entry)) this.sumUp(at);
  }

  // Of who came and went in a row only the last entry is shown, and says it of all.
  sumUp(at) {
    const entry = this.entries[at];
    const after = this.entries[at + 1];
    const folded = Boolean(after) && isNotice(after) && dayOf(after.date) === dayOf(entry.date) && after.id !== this.newFrom;
    entry.element.classList.toggle("folded", folded);
    if (folded) return;
    const steps = new Map();
    for (let i = at; i >= 0 && isNotice(this.entries[i]); i--) {
      const { user, type, reason } = this.entries[i].message;
      steps.set(user, { last: steps.get(user)?.last ?? (reason === "lost" ? "lost" : type), first: type });
      if (this.entries[i].element.querySelector(".day, .new")) break;
    }
    const who = (first, last) => [...steps].filter(([, s]) => s.first === first && s.last === last).map(([user]) => user).reverse();
    const parts = [
      [who("join", "join"), "joined"],
      [who("leave", "join"), "came back"],
      [[...who("leave", "leave"), ...who("join", "leave")], "left"],
      [[...who("leave", "lost"), ...who("join", "lost")], "lost the connection"],
    ];
    const said = parts.filter(([users]) => users.length).map(([users, verb]) => `${listed(users)} ${verb}`);
    entry.element.querySelector(".row").textContent = said.join(" · ") || "Something that this page does not know";
  }

  // Drawing ---------------------------------------------------------------------------------------------------------

  draw(entry) {
    const { message } = entry;
    entry.element = make("li", isNotice(entry) ? "notice" : "message");
    const row = make("div", "row");
    entry.element.append(row);
    if (isNotice(entry)) return;
    const own = message.user === this.me;
    entry.element.classList.toggle("own", own);
    const bubble = make("div", "bubble");
    const author = make("div", "author", own ? "You" : message.user);
    const text = make("div", "text");
    entry.foot = make("span", "foot");
    const body = make("span", "body");
    const said = typeof message.text === "string" ? message.text : JSON.stringify(message.text) ?? "";
    fill(body, said);
    text.classList.toggle("emoji", isEmoji(said));
    const avatar = paint(make("span", "avatar"), message.user);
    avatar.ariaHidden = "true";
    author.style.setProperty("--hue", avatar.style.getPropertyValue("--hue"));
    text.append(body, entry.foot);
    bubble.append(author, text);
    row.append(avatar, bubble);
    this.dress(entry);
  }

  // Time and state: what changes when the server has it.
  dress(entry) {
    const time = make("time", "", timeOf(entry.date));
    time.dateTime = entry.date.toISOString();
    time.title = fullTime(entry.date);
    entry.element.dataset.state = entry.state;
    if (entry.id) entry.element.dataset.id = entry.id;
    entry.foot.replaceChildren(time);
    if (entry.message.user === this.me) {
      const state = make("span", "state");
      state.append(make("span", "unseen", STATES[entry.state]));
      state.title = STATES[entry.state];
      entry.foot.append(state);
    }
    entry.element.querySelector(".trouble")?.remove();
    if (entry.state !== "failed") return;
    const trouble = make("div", "trouble", `${entry.reason} `);
    const again = make("button", "quiet", "Try again");
    const drop = make("button", "quiet", "Delete");
    again.onclick = () => {
      entry.state = "sending";
      this.dress(entry);
      this.actions.retry(entry);
    };
    drop.onclick = () => this.drop(entry);
    trouble.append(again, drop);
    entry.element.append(trouble);
  }

  // Place and what is unread ----------------------------------------------------------------------------------------

  get watched() {
    return this.active && this.stuck && !document.hidden;
  }

  counts(entry) {
    return entry.message.user !== this.me && !isNotice(entry);
  }

  count(entry) {
    if (this.readTo && compareIds(entry.id, this.readTo) <= 0) return;
    if (this.counts(entry) && !this.watched) {
      this.unread++;
      if (!this.newFrom) {
        this.newFrom = entry.id;
        this.refresh();
      }
    }
    if (this.watched) this.readTo = entry.id;
    this.actions.moved(this);
  }

  read() {
    this.unread = 0;
    this.readTo = this.entries.findLast((entry) => entry.id)?.id ?? this.readTo;
    this.actions.moved(this);
  }

  scrolled() {
    if (!this.active) return;
    const { scrollTop, scrollHeight, clientHeight } = this.element;
    // What grows below is no reason to let go of the bottom; only somebody who scrolls up is.
    this.stuck = scrollHeight - scrollTop - clientHeight < NEAR || (this.stuck && scrollTop >= this.seenTop);
    this.seenTop = scrollTop;
    if (this.watched) this.read();
    else this.actions.moved(this);
    if (scrollTop < clientHeight && this.older !== null && !this.loading) {
      this.loading = true;
      this.sayTop();
      this.actions.older();
    }
  }

  toBottom() {
    this.stuck = true;
    this.element.scrollTop = this.element.scrollHeight;
    if (this.watched) this.read();
  }

  show(active) {
    if (this.active && !active && this.newFrom) {
      this.newFrom = null;
      this.refresh();
    }
    this.active = active;
    this.element.inert = !active;
    this.element.classList.toggle("active", active);
    this.announce();
    const unseen = active && this.element.querySelector(".new");
    if (!unseen) return void (active && this.stuck && this.toBottom());
    const top = unseen.getBoundingClientRect().top - this.element.getBoundingClientRect().top + this.element.scrollTop;
    if (top - 20 >= this.element.scrollHeight - this.element.clientHeight) return this.toBottom();
    this.element.scrollTop = top - 20; // what is new begins at the top of the screen
    this.scrolled();
  }

  announce() {
    this.element.ariaLive = this.active ? "polite" : "off";
  }

}

function clientKey(message) {
  return message.client_id ? `${message.user}\n${message.client_id}` : undefined;
}

function dateOf(message) {
  return message.id ? new Date(Number(message.id.split("-")[0])) : new Date();
}

function isNotice(entry) {
  return entry.message.type !== "message" && entry.message.type !== "direct";
}

function together(one, other) {
  if (isNotice(one) || isNotice(other)) return isNotice(one) && isNotice(other);
  return one.message.user === other.message.user && other.date - one.date < TOGETHER;
}
