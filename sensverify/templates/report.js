"use strict";
// The page can be read without this script. It folds the cards of directions and adds search, sorting and filters.
document.documentElement.classList.add("js"); // before the first paint: nothing moves when the rest runs
document.addEventListener("DOMContentLoaded", () => {
  for (const browser of document.querySelectorAll(".browser")) enhance(browser);
  addEventListener("hashchange", openTarget);
  openTarget();
});

function enhance(browser) {
  const table = browser.querySelector("table"), search = browser.querySelector("input[type=search]");
  const status = browser.querySelector("[role=status]"), list = browser.querySelector(".list");
  const plural = (count) => count + (count === 1 ? " direction" : " directions");
  const rows = [...table.tBodies].map((body, order) => {
    const value = (name) => {
      const text = body.querySelector("td." + name)?.dataset.value;
      return text ? Number(text.replace("inf", "Infinity")) : NaN;
    };
    const head = body.querySelector("th");
    const name = head.textContent.trim();
    const button = asButton(head);
    const row = { body, order, button, text: null, name, value };
    button.setAttribute("aria-controls", body.id + "-card");
    body.querySelector(".more").id = body.id + "-card";
    button.addEventListener("click", () => toggle(body));
    toggle(body, false);
    return row;
  });
  let sorted = { name: "", down: true };

  const text = (row) => row.text ??= normal([...row.body.querySelectorAll("th, .words, .context, .token code")]
    .map((element) => element.textContent).join("\n"));
  const shown = () => rows.filter((row) => !row.body.hidden);

  function update() {
    const query = normal(search.value), group = browser.querySelector("fieldset input:checked")?.value ?? "";
    for (const row of rows) {
      row.body.hidden = (group && row.body.dataset.group !== group) || (query.trim() && !text(row).includes(query));
    }
    const count = shown().length;
    const matches = count === rows.length ? plural(count) : count ? `${count} of ${plural(rows.length)}`
      : `no match among ${plural(rows.length)}`;
    const order = sorted.name && `, by ${sorted.label}, ${sorted.name === "name" ? (sorted.down ? "Z to A" : "A to Z")
      : sorted.down ? "highest first" : "lowest first"}`;
    status.textContent = matches + order;
  }

  function sort(head, label) {
    const name = head.dataset.sort;
    const down = sorted.name === name ? !sorted.down : name !== "name";
    sorted = { name, down, label };
    const sign = down ? -1 : 1;
    const compare = name === "name"
      ? (a, b) => a.name.localeCompare(b.name, "en", { numeric: true })
      : (a, b) => a.value(name) - b.value(name);
    const missing = (row) => name !== "name" && Number.isNaN(row.value(name));
    rows.sort((a, b) => missing(a) - missing(b) || (missing(a) ? 0 : sign * compare(a, b)) || a.order - b.order);
    table.append(...rows.map((row) => row.body)); // whoever had the focus sits in the head and keeps it
    for (const other of table.tHead.querySelectorAll("[data-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    list.scrollTop = 0;
    update();
  }

  for (const head of table.tHead.querySelectorAll("[data-sort]")) {
    const label = head.textContent.trim().toLowerCase();
    head.setAttribute("aria-sort", head.getAttribute("aria-sort") ?? "none");
    asButton(head).addEventListener("click", () => sort(head, label));
  }
  const scores = rows.map((row) => row.value("score"));
  if (scores.every((score, i) => i === 0 || score <= scores[i - 1])) { // the order in which the page was written
    sorted = { name: "score", down: true, label: "score" };
    table.tHead.querySelector("[data-sort=score]").setAttribute("aria-sort", "descending");
  }
  search.addEventListener("input", update);
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && search.value) search.value = "", update(), event.preventDefault();
    if (event.key === "ArrowDown") shown()[0]?.button.focus(), event.preventDefault();
  });
  browser.querySelector("fieldset")?.addEventListener("change", update);
  table.addEventListener("keydown", (event) => {
    const visible = shown().map((row) => row.button), at = visible.indexOf(event.target);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: visible.length - 1 }[event.key];
    if (at < 0 || to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    (to < 0 ? search : visible[Math.min(to, visible.length - 1)]).focus();
  });
  search.value = ""; // some browsers keep the text over a reload, and would show a list that it does not fit
  const all = browser.querySelector("fieldset input");
  if (all) all.checked = true;
  update();
}

function asButton(cell) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...cell.childNodes);
  cell.append(button);
  return button;
}

function toggle(body, open = !body.classList.contains("open")) {
  body.classList.toggle("open", open);
  body.querySelector("button").setAttribute("aria-expanded", open);
}

function normal(text) {
  return text.toLowerCase().replaceAll("␣", " ").replace(/[⏎␍⇥\s]/g, " ");
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target?.classList.contains("direction")) return;
  toggle(target, true);
  target.scrollIntoView();
}
