// The list: an article per row, filled while it is near the window and emptied when it is far; the controls; the keys.
const NEAR = "1200px 0px"; // how far outside the window a row is filled already
const rows = JSON.parse(byId("data").textContent);
const feed = byId("rows"), form = byId("filters");

for (const row of rows) {
  row.unfolded = new Set();
  row.haystack = haystack(row);
  row.article = make("article", { class: "card", tabindex: -1, "aria-label": `row ${row.id}` });
}
const rowOf = new Map(rows.map((row) => [row.article, row]));

const fill = (article) => {
  if (article.childElementCount > 0) return;
  article.replaceChildren(...cardOf(rowOf.get(article)).filter((child) => child !== null));
  article.style.minBlockSize = "";
};
const empty = (article) => {
  if (article.childElementCount === 0 || article.contains(document.activeElement)) return;
  if (article.isConnected) article.style.minBlockSize = `${article.offsetHeight}px`;
  article.replaceChildren();
};
// Rows that nobody has come to yet are taken to be as high as the first ones.
const measure = () => {
  const heights = rows.filter((row) => row.article.childElementCount > 0).map((row) => row.article.offsetHeight);
  if (heights.length === 0 || feed.style.getPropertyValue("--usual")) return;
  feed.style.setProperty("--usual", `${Math.round(heights.reduce((sum, height) => sum + height) / heights.length)}px`);
};
const watcher = new IntersectionObserver((changes) => {
  changes.forEach((change) => (change.isIntersecting ? fill : empty)(change.target));
  measure();
}, { rootMargin: NEAR });
rows.forEach((row) => watcher.observe(row.article));

// Statuses and methods are chosen by the boxes that are ticked.
const facet = (place, key) => {
  const values = [...counted(rows, key).keys()].sort(names.compare);
  const boxes = values.map((value) => {
    const box = make("input", { type: "checkbox", checked: true }), count = make("span", { class: "count" });
    byId(place).append(make("label", { class: "chip" }, box, ` ${value === "" ? "none reached" : value} `, count));
    return { value, box, count };
  });
  if (values.length < 2) byId(place).classList.add("single");
  return boxes;
};
const statuses = facet("statuses", "status"), methods = facet("methods", "method");
const ticked = (boxes) => new Set(boxes.filter((one) => one.box.checked).map((one) => one.value));
byId("verdict-label").hidden = rows.every((row) => row.right === null);

const asked = () => {
  const ends = [Number(byId("least-sure").value), Number(byId("most-sure").value)].sort((a, b) => a - b);
  return {
    words: normal(byId("search").value).split(/\s+/).filter((word) => word !== ""),
    statuses: ticked(statuses), methods: ticked(methods), least: ends[0] / 100, most: ends[1] / 100,
    changed: byId("changed").checked, verdict: byId("verdict").value,
  };
};

const tellCounts = (found) => {
  for (const [boxes, name, key] of [[statuses, "statuses", "status"], [methods, "methods", "method"]]) {
    const counts = counted(found.without[name], key);
    for (const one of boxes) one.count.textContent = counts.get(one.value) ?? 0;
  }
  byId("changed-count").textContent = found.without.changed.filter((row) => row.changed).length;
  byId("unsure-count").textContent = `${found.without.sure.filter((row) => row.sure === null).length} without`;
  byId("least-shown").textContent = `${byId("least-sure").value}%`;
  byId("most-shown").textContent = `${byId("most-sure").value}%`;
  byId("matching").textContent = `${found.passing.length} of ${rows.length} rows`;
  byId("nothing").hidden = found.passing.length > 0;
};

let stop = null; // the one article that the tab key stops at
const stopAt = (article) => {
  stop?.setAttribute("tabindex", -1);
  stop = article;
  stop?.setAttribute("tabindex", 0);
};

const show = () => {
  const found = sifted(rows, asked());
  tellCounts(found);
  const order = found.passing.sort(ORDERS[byId("order").value]);
  order.forEach((row, place) => {
    row.article.setAttribute("aria-posinset", place + 1);
    row.article.setAttribute("aria-setsize", order.length);
  });
  feed.replaceChildren(...order.map((row) => row.article));
  stopAt(order.length > 0 ? order[0].article : null);
  byId("layers").querySelectorAll("input").forEach((box) => feed.classList.toggle(`without-${box.value}`, !box.checked));
};

let due = 0;
const showSoon = () => {
  cancelAnimationFrame(due);
  due = requestAnimationFrame(show);
};
form.addEventListener("input", showSoon);
form.addEventListener("reset", () => setTimeout(showSoon)); // the controls have their first values only after the event
form.addEventListener("submit", (event) => event.preventDefault());

// As in other feeds: page keys go from row to row, with Ctrl+Home and Ctrl+End to the first and the last.
const goal = (event, article) => {
  if (event.key === "PageDown") return article.nextElementSibling;
  if (event.key === "PageUp") return article.previousElementSibling;
  if (event.ctrlKey && event.key === "Home") return feed.firstElementChild;
  return event.ctrlKey && event.key === "End" ? feed.lastElementChild : null;
};
feed.addEventListener("keydown", (event) => {
  const article = event.target.closest("article"), next = article && goal(event, article);
  if (!next) return;
  event.preventDefault();
  fill(next);
  next.focus();
  next.scrollIntoView({ block: "nearest" });
});

// What the pointer or the focus is on, a line or a candidate, is lit in the picture and in the list.
const light = (event) => {
  feed.querySelectorAll(".lit").forEach((one) => one.classList.remove("lit"));
  const keyed = event.target.closest("[data-key]");
  if (!keyed) return;
  const key = keyed.dataset.key;
  for (const one of keyed.closest("article").querySelectorAll("[data-key]")) one.classList.toggle("lit", one.dataset.key === key);
};
feed.addEventListener("pointerover", light);
feed.addEventListener("focusin", (event) => {
  stopAt(event.target.closest("article"));
  light(event);
});

show();
