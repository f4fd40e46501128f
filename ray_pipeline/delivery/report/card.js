// One row as an article: picture with boxes, crops, answers, what they were chosen from, and where all that comes from.
const LACKING = {
  gone: "The picture is gone, or is another one than in the run.",
  room: "No room for this picture: see the page's facts.",
  none: "No picture.",
};
const UNSURE = 0.5; // lines less sure than this are marked

const imageData = (id) => {
  const island = byId(id);
  return `data:${island.type};base64,${island.textContent}`;
};

const rectangle = (box, kind, key, said) => {
  const [x0, y0, x1, y1] = box;
  return draw("rect", { class: kind, "data-key": key, x: x0, y: y0, width: Math.max(x1 - x0, 0), height: Math.max(y1 - y0, 0) },
    draw("title", {}, said));
};

// The answer comes last, over all others.
const overlay = (row) => {
  const drawn = [
    ...row.crops.map((box, place) => [box, "box-crops", `crop-${place}`, "zoomed in here"]),
    ...row.candidates.map((one, place) => [one.box, "box-candidates", `candidate-${place}`, `candidate: ${one.text}`]),
    ...row.regions.map((one, place) => [one.box, "box-regions", `region-${place}`, one.text ?? one.label ?? one.kind]),
    ...row.truth_boxes.map((one, place) => [one.box, "box-truth", `truth-${place}`, `reference: ${one.label}`]),
    [row.box, "box-answer", "answer", "the answer"],
  ].filter(([box]) => box !== null);
  return draw("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", role: "img", "aria-label": `${drawn.length} boxes` },
    drawn.map((one) => rectangle(...one)));
};

const pictureOf = (row) => {
  if (row.images.picture === null) return make("p", { class: "soft picture" }, LACKING[row.lacking]);
  const [width, height] = row.size;
  const whole = make("img", { src: imageData(row.images.picture), alt: `picture of row ${row.id}`, width, height, decoding: "async" });
  const heat = row.images.map === null ? null
    : make("img", { class: "map", src: imageData(row.images.map), alt: "importance map over the picture", decoding: "async" });
  return make("figure", { class: "picture" }, make("div", { class: "stack" }, whole, heat, overlay(row)));
};

const cropsOf = (row) => {
  if (row.images.crops.length === 0) return null;
  const shown = row.images.crops.map((id, place) =>
    make("img", { src: imageData(id), alt: `crop ${place + 1} of row ${row.id}`, "data-key": `crop-${place}`, decoding: "async" }));
  const left = row.crops.length - shown.length;
  return make("figure", { class: "crops" }, shown, make("figcaption", {}, left > 0 ? `zoomed in here, and at ${left} more` : "zoomed in here"));
};

const sureness = (share) => {
  if (share === null) return "how sure is not known";
  const bar = make("meter", { min: 0, max: 1, value: share, "aria-label": "confidence" });
  return make("span", {}, bar, ` ${percent(share)} sure`);
};

const answer = (name, kind, said, share) =>
  make("div", { class: `answer ${kind}` }, make("p", { class: "soft" }, `${name} `, sureness(share)), make("p", { class: "said" }, said));

const answersOf = (row) => {
  const before = row.before === null ? null : answer("first look", "first", row.before, row.before_sure);
  const final = row.answer === null ? null : answer("answer", "final", row.answer, row.sure);
  const truth = row.truth.length === 0 ? null : make("p", { class: "soft" }, "reference: ", make("b", {}, row.truth.join(" | ")));
  const verdict = row.right === null ? null
    : make("p", { class: row.right ? "verdict right" : "verdict wrong" }, row.right ? "✓ right" : "✗ wrong");
  const scores = Object.entries(row.scores).map(([name, value]) => `${name} ${figure(value, 2)}`);
  const scored = scores.length === 0 ? null : make("p", { class: "soft" }, scores.join(", "));
  const used = row.crops.length === 0 ? "" : row.used ? " (used)" : " (not used)";
  const why = row.method === "" ? null : make("p", { class: "soft" }, `${row.method}${used}: ${row.reason}`);
  const sureOfBox = row.box_sure === null ? null : make("p", { class: "soft" }, "box ", sureness(row.box_sure));
  return [before, final, sureOfBox, truth, verdict, scored, why];
};

const errorOf = (row) => (row.failed ? make("p", { class: "error" }, make("code", {}, row.status), ` ${row.error ?? ""}`) : null);

const unfolding = (row, name, summary, inside) => {
  const details = make("details", { open: row.unfolded.has(name) }, make("summary", {}, summary), inside);
  details.addEventListener("toggle", () => (details.open ? row.unfolded.add(name) : row.unfolded.delete(name)));
  return details;
};

const candidatesOf = (row) => {
  if (row.candidates.length === 0) return null;
  const head = ["", "candidate", "log-probability", "entropy", "predicted IoU"].map((name) => make("th", { scope: "col" }, name));
  const lines = row.candidates.map((one, place) =>
    make("tr", { "data-key": `candidate-${place}`, tabindex: 0, class: one.chosen ? "chosen" : null },
      make("td", {}, one.chosen ? "✓ chosen" : ""), make("td", { class: "said" }, one.text),
      ...[one.logprob, one.entropy, one.iou].map((value) => make("td", {}, figure(value)))));
  const table = make("table", {}, make("thead", {}, make("tr", {}, head)), make("tbody", {}, lines));
  return unfolding(row, "candidates", row.candidates.length === 1 ? "1 candidate" : `${row.candidates.length} candidates`, make("div", { class: "wide" }, table));
};

const line = (key, kind, said, sure) => {
  const unsure = sure !== null && sure < UNSURE;
  return make("li", { "data-key": key, tabindex: 0, class: unsure ? `${kind} unsure` : kind },
    make("span", { class: "said" }, said), make("small", {}, sure === null ? "" : `${unsure ? "? " : ""}${percent(sure)}`));
};

// What was said of a region stands below it, and shows the region's box.
const regionsOf = (row) => {
  if (row.regions.length === 0) return null;
  const lines = row.regions.flatMap((one, place) => [
    line(`region-${place}`, "region", one.label ? `${one.label}: ${one.text ?? ""}` : one.text ?? one.kind, one.sure),
    ...one.attributes.map((own) => line(`region-${place}`, "attribute", `${own.name}: ${own.text ?? "no answer"}`, own.sure)),
  ]);
  return make("ol", { class: "lines", "aria-label": "lines and regions" }, lines);
};

const provenanceOf = (row) => {
  const [width, height] = row.size;
  const facts = [
    ["picture", row.address], ["page", row.page], ["size", width === null ? null : `${width} × ${height} px`], ["sha256", row.sha256],
    ["row of the run", row.number], ["views", row.views], ["visual tokens", row.tokens],
    ["confidences", row.failed ? null : row.calibrated ? "calibrated" : "as the model gives them"],
  ].filter(([, value]) => value !== null && value !== "");
  const list = make("dl", {}, facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
  return unfolding(row, "provenance", "Provenance", list);
};

const cardOf = (row) => {
  const page = row.page === null ? "" : ` · page ${row.page + 1}`;
  const title = make("header", {}, row.question === null || row.question === "" ? null : make("h3", {}, row.question),
    make("p", { class: "soft" }, `${row.id}${page}`, row.changed ? make("b", { class: "tag" }, "changed by zoom") : null));
  const reading = row.regions.length > 0;
  const said = make("div", { class: "told" }, errorOf(row), reading ? regionsOf(row) : null,
    reading && row.before === null ? [sureOfPage(row), ...answersOf({ ...row, answer: null })] : answersOf(row),
    candidatesOf(row), provenanceOf(row));
  return [title, pictureOf(row), cropsOf(row), said];
};

const sureOfPage = (row) => make("p", { class: "soft" }, "whole page ", sureness(row.sure));
