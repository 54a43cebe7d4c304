// The page: which conversation is shown, and everything around it. What is remembered is in localStorage.

import { dayName, listed, paint, several, timeOf } from "./format.js";
import { drawList, line, setBadge } from "./lists.js";
import { Room } from "./room.js";

const $ = (id) => document.getElementById(id);
const memory = {
  get(key, otherwise) {
    try {
      return JSON.parse(localStorage.getItem(`chat:${key}`)) ?? otherwise;
    } catch {
      return otherwise; // not written by us
    }
  },
  set: (key, value) => localStorage.setItem(`chat:${key}`, JSON.stringify(value)),
};

const joined = new Map(); // name → Room
let known = []; // all rooms: {name, members}
let me = null;
let here = null; // the room that is shown
let peer = ""; // and with whom, if it is a direct conversation
let due = false;

const page = {
  changed: () => draw(),
  added: (talk) => $("timelines").append(talk.element),
  rooms(list) {
    known = list;
    draw();
  },
  refused(room, text) {
    forget(room);
    if (joined.size) return notice(text);
    $("door-error").textContent = text;
    showDoor();
  },
  error: (text) => notice(text),
  saw() {
    saving ??= setTimeout(save, 300);
    draw();
  },
};

// Up to which message each room has been read.
let saving = null;
function save() {
  saving = null;
  const read = [...joined.values()].map((room) => [room.name, room.main.readTo]);
  memory.set("read", { ...memory.get("read", {}), ...Object.fromEntries(read) });
}
addEventListener("pagehide", save);

// Coming and going ----------------------------------------------------------------------------------------------------

function showDoor() {
  $("app").hidden = true;
  $("door").hidden = false;
  $("name").value = memory.get("name", "");
  $("name").focus();
}

$("enter").onsubmit = (event) => {
  event.preventDefault();
  const [name, room] = [tidy($("name").value), tidy($("first-room").value)];
  $("door-error").textContent = name ? (room ? "" : "Which room?") : "A name, please.";
  if (!name || !room) return (name ? $("first-room") : $("name")).focus();
  enter(name, [room, ...memory.get("rooms", [])], room);
};

function enter(name, rooms, first) {
  me = name;
  memory.set("name", name);
  $("door").hidden = true;
  $("app").hidden = false;
  $("my-name").textContent = name;
  paint($("my-avatar"), name);
  for (const room of rooms) join(room);
  go(joined.get(first) ?? joined.get(rooms[0]));
  $("text").focus();
}

function join(name) {
  if (!joined.has(name)) joined.set(name, new Room(name, me, page, memory.get("read", {})[name] ?? null));
  memory.set("rooms", [...joined.keys()]);
  return joined.get(name);
}

function forget(room) {
  room.close();
  joined.delete(room.name);
  memory.set("rooms", [...joined.keys()]);
  if (room !== here) return draw();
  [here, peer] = [null, ""];
  const next = joined.values().next().value;
  if (next) go(next);
}

function go(room, withWhom = "") {
  const draft = $("text").value;
  if (here) here.talk(peer).draft = draft;
  here?.talk(peer).show(false);
  [here, peer] = [room, withWhom];
  const talk = here.talk(peer);
  memory.set("here", room.name);
  history.replaceState(null, "", `#${encodeURIComponent(room.name)}`);
  $("text").value = talk.draft ?? "";
  $("text").placeholder = peer ? `Message to ${peer}` : `Message to ${room.name}`;
  grow();
  close();
  if (peer && !talk.hasAsked) room.older(peer);
  draw();
  talk.show(true);
  if (matchMedia("(hover: hover)").matches) $("text").focus();
}

$("rename").onclick = () => {
  for (const room of joined.values()) room.close();
  joined.clear();
  here = null;
  $("first-room").value = memory.get("here", "lobby");
  showDoor();
};

$("leave").onclick = () => {
  if (peer) {
    here.talk(peer).element.remove();
    here.talks.delete(peer);
    here.main.show(true);
    peer = "";
    return go(here);
  }
  const left = here;
  forget(left);
  if (!joined.size) {
    memory.set("rooms", []);
    $("first-room").value = left.name;
    showDoor();
  }
};

$("create").onsubmit = (event) => {
  event.preventDefault();
  const name = tidy($("new-room").value);
  if (!name) return $("new-room").focus();
  $("new-room").value = "";
  go(join(name));
};

function tidy(text) {
  return text.trim().replace(/\s+/g, " ");
}

// Drawing: once for all that has changed ------------------------------------------------------------------------------

function draw() {
  if (due) return;
  due = true;
  queueMicrotask(() => {
    due = false;
    if (!here) return;
    drawHeader();
    drawRooms();
    drawMembers();
    drawTyping();
    drawBanner();
    drawJump();
  });
}

function drawHeader() {
  const names = [...here.members.keys()];
  $("title").textContent = peer || here.name;
  $("title").className = peer ? "person" : "room";
  const away = peer && !here.members.has(peer);
  $("subtitle").textContent = peer ? `${away ? "Not here now" : "Here now"} · ${here.name}` : several(names.length, "member", "members");
  $("subtitle").className = away || here.connection.state !== "open" ? "" : "live";
  $("leave-text").textContent = peer ? "Close the conversation" : "Leave the room";
  const elsewhere = [...joined.values()].reduce((sum, room) => sum + room.unread, 0) - here.talk(peer).unread;
  setBadge($("elsewhere"), elsewhere);
  const unread = elsewhere + here.talk(peer).unread;
  document.title = `${unread ? `(${unread}) ` : ""}${peer || here.name} · Chat`;
}

function drawRooms() {
  const members = new Map(known.map((room) => [room.name, room.members]));
  const mine = [...joined.values()].map((room) => ({ key: room.name, room }));
  drawList($("my-rooms"), mine, (button, { room }) => line(button, {
    name: room.name, sign: "#", unread: room.main.unread, current: room === here && !peer, action: () => go(room),
    note: String(room.connection.state === "open" ? room.members.size : members.get(room.name) ?? ""),
    label: several(room.members.size, "member", "members"),
  }));
  const others = known.filter(({ name }) => !joined.has(name)).map((room) => ({ ...room, key: room.name }));
  drawList($("other-rooms"), others, (button, { name, members: count }) => line(button, {
    name, sign: "#", note: String(count), action: () => go(join(name)), label: `Join: ${several(count, "member", "members")}`,
  }));
  const directs = [...joined.values()].flatMap((room) =>
    [...room.talks].filter(([with_]) => with_).map(([with_, talk]) => ({ key: `${room.name}\n${with_}`, room, with_, talk })));
  drawList($("directs"), directs, (button, { room, with_, talk }) => line(button, {
    name: with_, note: joined.size > 1 ? room.name : "", unread: talk.unread, current: room === here && peer === with_,
    action: () => go(room, with_),
  }));
  $("other-title").hidden = !others.length;
  $("direct-title").hidden = !directs.length;
}

function drawMembers() {
  const names = [...here.members].sort(([one], [other]) => (other === me) - (one === me) || one.localeCompare(other));
  $("people-title").textContent = `Members · ${names.length}`;
  drawList($("members"), names.map(([name, since]) => ({ key: name, name, since })), (button, { name, since }) => {
    const typing = here.typing.has(name);
    const date = new Date(since * 1000);
    line(button, {
      name, note: name === me ? "you" : typing ? "typing…" : "", current: peer === name,
      action: () => name !== me && go(here, name),
      label: `${name === me ? "" : `Message to ${name}. `}Here since ${dayName(date).toLowerCase()}, ${timeOf(date)}`,
    });
    button.disabled = name === me;
    button.classList.toggle("typing", typing);
  });
}

function drawTyping() {
  const names = peer ? [] : [...here.typing.keys()];
  const said = names.length ? `${listed(names)} ${names.length === 1 ? "is" : "are"} typing` : "";
  if ($("typing").textContent !== said) $("typing").textContent = said;
  $("typing").classList.toggle("on", Boolean(names.length));
}

// The connection ------------------------------------------------------------------------------------------------------

function drawBanner() {
  const { state, retryAt } = here.connection;
  const { back } = here;
  clearTimeout(drawBanner.timer);
  const show = (text, kind) => {
    if ($("banner-text").textContent !== text) $("banner-text").textContent = text;
    $("banner").className = kind;
    $("banner").hidden = false;
    $("retry").hidden = kind !== "lost";
  };
  if (state === "waiting" || (state === "connecting" && here.connection.failures)) {
    const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
    const next = state === "waiting" && seconds > 1 ? `Next try in ${seconds} s.` : "Connecting…";
    show(`No connection. ${next}`, "lost");
    drawBanner.timer = setTimeout(drawBanner, 500);
  } else if (back && Date.now() - back.since < 4_000) {
    show(`Connected again. ${back.count ? `${several(back.count, "message", "messages")} came meanwhile.` : "Nothing was missed."}`, "back");
    drawBanner.timer = setTimeout(drawBanner, 500);
  } else if (notice.text) {
    show(notice.text, "said");
  } else {
    $("banner").hidden = true;
    here.back = null;
  }
}

function notice(text) {
  notice.text = text;
  clearTimeout(notice.timer);
  notice.timer = setTimeout(() => {
    notice.text = "";
    draw();
  }, 6_000);
  draw();
}

function retryAll() {
  for (const room of joined.values()) room.connection.retry();
}

$("retry").onclick = retryAll;
addEventListener("online", retryAll);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  retryAll();
  here?.talk(peer).scrolled();
});

// Writing -------------------------------------------------------------------------------------------------------------

function grow() {
  const text = $("text");
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
  const left = 4000 - text.value.length;
  $("left").textContent = left < 200 ? String(left) : "";
  $("compose").querySelector(".send").disabled = !text.value.trim();
}

$("text").oninput = () => {
  grow();
  if ($("text").value.trim()) here.sayTyping(peer);
};

$("text").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("compose").requestSubmit();
};

$("compose").onsubmit = (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text) return;
  here.send(peer, text);
  $("text").value = "";
  grow();
  $("text").focus();
};

// Around it -----------------------------------------------------------------------------------------------------------

function drawJump() {
  const talk = here.talk(peer);
  $("jump").hidden = talk.stuck;
  $("jump-text").textContent = talk.unread ? several(talk.unread, "new message", "new messages") : "";
  $("jump").title = "To the newest message";
  $("jump").classList.toggle("news", talk.unread > 0);
}

$("jump").onclick = () => here.talk(peer).toBottom();

function close() {
  document.body.classList.remove("see-rooms", "see-people");
  $("show-rooms").ariaExpanded = $("show-people").ariaExpanded = "false";
}

function open(side, button) {
  const was = document.body.classList.contains(`see-${side}`);
  close();
  if (was) return;
  document.body.classList.add(`see-${side}`);
  button.ariaExpanded = "true";
  $(side).querySelector("button")?.focus({ preventScroll: true });
}

$("show-rooms").onclick = (event) => open("rooms", event.currentTarget);
$("show-people").onclick = (event) => open("people", event.currentTarget);
$("hide-people").onclick = $("shade").onclick = close;
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const opener = document.querySelector("[aria-expanded=true]");
  close();
  opener?.focus();
});

const themes = ["", "light", "dark"];
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  memory.set("theme", theme);
}
$("theme").onclick = () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
  setTheme(now === "dark" ? "light" : "dark");
};
setTheme(themes.includes(memory.get("theme", "")) ? memory.get("theme", "") : "");

// A link may name a room: http://…/#lobby
function linkedRoom() {
  try {
    return tidy(decodeURIComponent(location.hash.slice(1)));
  } catch {
    return "";
  }
}

const linked = linkedRoom();
const remembered = memory.get("rooms", []);
if (linked) $("first-room").value = linked;
if (memory.get("name", "") && remembered.length) {
  enter(memory.get("name"), linked ? [...remembered, linked] : remembered, linked || memory.get("here"));
} else {
  showDoor();
}
