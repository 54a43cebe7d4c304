// Lists of rooms and of people: a line each, with a picture, a name, a note and how much is unread.

import { make, paint, several } from "./format.js";

// Rows are kept and changed, never made anew: the one with the focus, or under a finger, stays.
export function drawList(list, items, update) {
  const rows = new Map([...list.children].map((row) => [row.dataset.key, row]));
  let place = list.firstElementChild;
  for (const item of items) {
    let row = rows.get(item.key);
    rows.delete(item.key);
    if (!row) {
      row = make("li");
      row.dataset.key = item.key;
      row.append(make("button", "line"));
      row.firstElementChild.append(make("span", "avatar"), make("span", "name"), make("span", "note"), make("span", "badge"));
      row.querySelector(".avatar").ariaHidden = "true";
    }
    if (row === place) place = place.nextElementSibling;
    else list.insertBefore(row, place);
    update(row.firstElementChild, item);
  }
  for (const row of rows.values()) row.remove();
}

export function line(button, { name, note = "", unread = 0, sign, current = false, action, label }) {
  const avatar = button.querySelector(".avatar");
  if (sign) avatar.textContent = sign;
  else if (avatar.dataset.name !== name) paint(avatar, name);
  avatar.dataset.name = name;
  avatar.classList.toggle("sign", Boolean(sign));
  button.querySelector(".name").textContent = name;
  button.querySelector(".note").textContent = note;
  button.title = label ?? "";
  button.ariaCurrent = current ? "page" : null;
  setBadge(button.querySelector(".badge"), unread);
  button.onclick = action;
}

export function setBadge(badge, count) {
  badge.hidden = !count;
  badge.textContent = count > 99 ? "99+" : count || "";
  badge.title = count ? several(count, "unread message", "unread messages") : "";
}
