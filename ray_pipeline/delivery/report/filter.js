// Which rows are asked for, and how many there would be with each other choice.
const normal = (text) => text.normalize("NFKC").toLocaleLowerCase();

const haystack = (row) => normal([
  row.id, row.question, row.answer, row.before, row.error, row.reason, ...row.truth,
  ...row.regions.map((one) => `${one.label ?? ""} ${one.text ?? ""}`),
  ...row.regions.flatMap((one) => one.attributes.map((own) => `${own.name} ${own.text ?? ""}`)), ...row.candidates.map((one) => one.text),
].filter((text) => text !== null).join("\n"));

// A row without a confidence is neither sure nor unsure: it is left out as soon as a range is asked for.
const isSure = (row, wanted) => {
  if (wanted.least === 0 && wanted.most === 1) return true;
  return row.sure !== null && row.sure >= wanted.least && row.sure <= wanted.most;
};

// One test per control; a row is shown where it passes all of them.
const TESTS = {
  words: (row, wanted) => wanted.words.every((word) => row.haystack.includes(word)),
  statuses: (row, wanted) => wanted.statuses.has(row.status),
  methods: (row, wanted) => wanted.methods.has(row.method),
  sure: isSure,
  changed: (row, wanted) => !wanted.changed || row.changed,
  verdict: (row, wanted) => wanted.verdict === "any" || row.right === (wanted.verdict === "right"),
};

// The rows that pass, and for each control those that pass all the others.
const sifted = (rows, wanted) => {
  const passing = [], without = Object.fromEntries(Object.keys(TESTS).map((name) => [name, []]));
  for (const row of rows) {
    const failed = Object.keys(TESTS).filter((name) => !TESTS[name](row, wanted));
    if (failed.length === 0) {
      passing.push(row);
      for (const name of Object.keys(TESTS)) without[name].push(row);
    } else if (failed.length === 1) without[failed[0]].push(row);
  }
  return { passing, without };
};

const counted = (rows, key) => {
  const counts = new Map();
  for (const row of rows) counts.set(row[key], (counts.get(row[key]) ?? 0) + 1);
  return counts;
};

const names = new Intl.Collator(undefined, { numeric: true });
const bySure = (first, second, sign) => {
  if (first.sure === null || second.sure === null) return (first.sure === null) - (second.sure === null);
  return sign * (first.sure - second.sure);
};
const ORDERS = {
  manifest: (first, second) => first.number - second.number,
  least: (first, second) => bySure(first, second, 1) || first.number - second.number,
  most: (first, second) => bySure(first, second, -1) || first.number - second.number,
  id: (first, second) => names.compare(first.id, second.id) || first.number - second.number,
};
