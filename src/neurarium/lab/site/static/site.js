"use strict";
// Theme: base.html has set the first one. Figures listen for "themechange".
const root = document.documentElement;
const isDark = () => root.dataset.theme === "dark";
const themeButton = document.getElementById("theme");

function setTheme(theme) {
  root.dataset.theme = theme;
  themeButton.setAttribute("aria-pressed", String(isDark()));
  dispatchEvent(new Event("themechange"));
}
themeButton.addEventListener("click", () => {
  chosenTheme = isDark() ? "light" : "dark";
  try { localStorage.setItem("neurarium-theme", chosenTheme); } catch (error) { /* a browser without storage */ }
  setTheme(chosenTheme);
});
systemDark.addEventListener("change", () => { if (!chosenTheme) setTheme(systemDark.matches ? "dark" : "light"); });
setTheme(root.dataset.theme);

// Paper is white: print in light, with everything unfolded.
let shownTheme = "", folded = [];
addEventListener("beforeprint", () => {
  shownTheme = root.dataset.theme;
  folded = [...document.querySelectorAll("details:not([open])")];
  folded.forEach((box) => { box.open = true; });
  setTheme("light");
});
addEventListener("afterprint", () => {
  folded.forEach((box) => { box.open = false; });
  setTheme(shownTheme);
});

// Tables: a heading sorts; numbers as numbers, what is missing always last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const rising = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const value = (row) => row.cells[column].dataset.value ?? "";
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      return (rising ? 1 : -1) * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
    });
    table.tBodies[0].append(...rows);
  }));
}

// The overview's search and filters.
const search = document.getElementById("search");
if (search) {
  const room = document.getElementById("room"), verdict = document.getElementById("verdict");
  const rows = [...document.querySelectorAll("#papers tbody tr")];
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits = words.every((word) => row.dataset.text.includes(word))
        && (!room.value || row.dataset.room === room.value)
        && (!verdict.value || row.dataset.verdicts.split("|").includes(verdict.value));
      row.hidden = !fits;
      shown += fits;
    }
    document.getElementById("shown").textContent = `${shown} shown`;
    document.getElementById("none").hidden = shown > 0;
  };
  for (const control of [search, room, verdict]) control.addEventListener("input", filter);
}

// The reference: an address with a name opens that name; the search goes over all rooms.
function openNamed() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named?.matches("details.symbol")) { named.open = true; named.scrollIntoView(); }
}
addEventListener("hashchange", openNamed);
openNamed();
const find = document.getElementById("find");
if (find) {
  const rooms = document.getElementById("rooms"), names = document.getElementById("names");
  find.addEventListener("input", () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of names.children) {
      row.hidden = !words.length || !words.every((word) => row.dataset.text.includes(word));
      shown += !row.hidden;
    }
    names.hidden = !words.length;
    rooms.hidden = words.length > 0;
    document.getElementById("shown").textContent = words.length ? `${shown} found` : "";
    document.getElementById("none").hidden = !words.length || shown > 0;
  });
}
