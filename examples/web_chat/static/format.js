// How ids, names, times and texts are shown. Nothing here knows the page, and nothing here makes HTML out of text.

const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const thisYear = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const otherYear = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const link = /https?:\/\/[^\s<>"]+[^\s<>"'.,;:!?)\]}]/g;
const onlyEmoji = /^(?:\p{Extended_Pictographic}|\p{Emoji_Component}|\s){1,12}$/u;

// Ids are "<milliseconds>-<number>": both parts are compared as numbers.
export function compareIds(one, other) {
  const [a, b] = [one.split("-").map(Number), other.split("-").map(Number)];
  return a[0] - b[0] || a[1] - b[1];
}

// Not crypto.randomUUID: that is missing where a phone opens http://192.168.x.y.
export function randomId() {
  return Array.from(crypto.getRandomValues(new Uint32Array(3)), (part) => part.toString(36)).join("");
}

export function timeOf(date) {
  return clock.format(date);
}

export function fullTime(date) {
  return full.format(date);
}

export function dayOf(date) {
  return date.toDateString();
}

export function dayName(date) {
  const now = new Date();
  const midnight = (day) => Date.UTC(day.getFullYear(), day.getMonth(), day.getDate());
  const ago = Math.round((midnight(now) - midnight(date)) / 86_400_000);
  if (ago === 0) return "Today";
  if (ago === 1) return "Yesterday";
  return (date.getFullYear() === now.getFullYear() ? thisYear : otherYear).format(date);
}

export function several(count, one, many) {
  return count === 1 ? `1 ${one}` : `${count.toLocaleString()} ${many}`;
}

// "ann", "ann and bob", "ann, bob and 3 others"
export function listed(names) {
  if (names.length < 2) return names.join("");
  if (names.length < 4) return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
  return `${names[0]}, ${names[1]} and ${several(names.length - 2, "other", "others")}`;
}

// The same colour for a name on every screen.
export function paint(avatar, user) {
  let hash = 0;
  for (const letter of user) hash = Math.imul(hash ^ letter.codePointAt(0), 0x9e3779b1) >>> 3;
  avatar.style.setProperty("--hue", (hash % 24) * 15);
  const words = user.split(/[\s._-]+/).filter(Boolean);
  const first = (word) => [...word][0] ?? "";
  avatar.textContent = (first(words[0] ?? "?") + (words.length > 1 ? first(words.at(-1)) : "")).toUpperCase();
  return avatar;
}

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

// Some emoji and nothing else: shown larger.
export function isEmoji(text) {
  return onlyEmoji.test(text) && /\p{Extended_Pictographic}/u.test(text);
}

// Text with what looks like an address as a link; all of it goes in as text.
export function fill(element, text) {
  let end = 0;
  for (const found of text.matchAll(link)) {
    element.append(text.slice(end, found.index));
    const anchor = make("a", "", found[0]);
    anchor.href = found[0];
    anchor.target = "_blank";
    anchor.rel = "noopener noreferrer nofollow";
    element.append(anchor);
    end = found.index + found[0].length;
  }
  element.append(text.slice(end));
}
