"""The style of a report page. Its sha256 stands in the page's content policy, so no other style can apply."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5b6470; --page: #f5f6f8; --card: #ffffff; --line: #dfe3e8;
  --mark: #0b6bcb; --good: #18794e; --bad: #b42318; --crop: #e8590c; --answer: #2f9e44; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --soft: #9aa4b0; --page: #14171a; --card: #1d2125; --line: #32383f; --mark: #6cb2f7;
    --good: #5ec68d; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1.5rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
header, main, nav, section { max-width: 78rem; margin: 0 auto 1.25rem; }
h1 { font-size: 1.5rem; margin: 0 0 .75rem; } h2 { font-size: 1.1rem; } h3 { font-size: 1rem; margin: 0 0 .5rem; }
h1, h2, h3, p, dd, td { overflow-wrap: anywhere; white-space: pre-wrap; }
dl.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .75rem; margin: 0; }
dl.facts div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .75rem; }
dt { color: var(--soft); font-size: .8rem; } dd { margin: 0; }
.choice { position: absolute; opacity: 0; }
nav { display: flex; gap: .5rem; }
nav label { border: 1px solid var(--line); border-radius: 2rem; padding: .25rem .9rem; background: var(--card); cursor: pointer; }
#show-all:checked ~ nav .for-all, #show-changed:checked ~ nav .for-changed, #show-errors:checked ~ nav .for-errors {
  border-color: var(--mark); color: var(--mark); font-weight: 600; }
.choice:focus-visible ~ nav { outline: 2px solid var(--mark); outline-offset: 4px; border-radius: 2rem; }
#show-changed:checked ~ main .same, #show-changed:checked ~ .errors, #show-errors:checked ~ main { display: none; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: 1rem; margin-bottom: 1rem;
  display: grid; grid-template-columns: minmax(0, 20rem) minmax(0, 15rem) minmax(0, 1fr); gap: 1rem; }
@media (max-width: 55rem) { .card { grid-template-columns: minmax(0, 1fr); } }
.title { grid-column: 1 / -1; }
.soft, figcaption { color: var(--soft); font-size: .85rem; }
figure { margin: 0; }
.stack { position: relative; line-height: 0; }
.stack img, .crop { display: block; width: 100%; height: auto; border-radius: .35rem; }
.stack .map, .stack svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.stack .map { opacity: .6; }
rect { fill: none; stroke-width: 2px; vector-effect: non-scaling-stroke; }
.crop-box { stroke: var(--crop); stroke-dasharray: 6 4; } .answer-box { stroke: var(--answer); }
.crop { border: 1px solid var(--line); }
.answer { border-left: 3px solid var(--line); padding-left: .75rem; margin-bottom: .75rem; }
.answer p { margin: 0; font-size: 1.05rem; } .final { border-color: var(--mark); }
meter { width: 8rem; height: .7rem; vertical-align: middle; }
table { border-collapse: collapse; width: 100%; background: var(--card); }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid var(--line); }
.status { color: var(--bad); font-family: ui-monospace, monospace; font-size: .85rem; }
"""
