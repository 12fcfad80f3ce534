"""Style: how the page looks, in light and in darkness, on paper and on a phone."""

from __future__ import annotations

__all__ = ["CSS"]

CSS = """
:root {
  color-scheme: light dark;
  --paper: #f6f7f9; --card: #ffffff; --ink: #1c2128; --muted: #57606a; --line: #d5dae0;
  --accent: #2266bb; --done: #1f7a4d; --cached: #2266bb; --failed: #b3261e; --unfinished: #8a5a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12161b; --card: #1b2128; --ink: #e6eaef; --muted: #a5afba; --line: #38414b;
    --accent: #7db4f5; --done: #5ec48f; --cached: #7db4f5; --failed: #ff8a80; --unfinished: #e0b04c;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere;
}
header, main, footer { max-width: 66rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
footer { padding-bottom: 2.5rem; color: var(--muted); font-size: .875rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2rem 0 .75rem; }
h3 { font-size: 1rem; margin: 0 0 .25rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--accent); }
a:focus-visible, summary:focus-visible, [tabindex]:focus-visible {
  outline: 3px solid var(--accent); outline-offset: 2px;
}
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; margin: .75rem 0 0; padding: 0; }
nav a { display: inline-block; padding: .25rem 0; }
code { font: .875em ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace; }
pre {
  margin: .5rem 0; padding: .625rem .75rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .375rem; overflow-x: auto; max-width: 46rem;
}
.muted { color: var(--muted); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.25rem, 1fr)); gap: .75rem; margin: 0; }
.cards > div, .panel {
  background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem .875rem; min-width: 0;
}
.cards > div { border-top: 4px solid var(--line); }
.cards .done { border-top-color: var(--done); }
.cards .cached { border-top-color: var(--cached); }
.cards .failed { border-top-color: var(--failed); }
.cards .unfinished { border-top-color: var(--unfinished); }
.cards dt { color: var(--muted); font-size: .875rem; }
.cards dd { margin: 0; font-size: 1.5rem; font-weight: 600; line-height: 1.3; }
.cards dd + dd { font-size: .875rem; font-weight: 400; color: var(--muted); }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .125rem 1rem; margin: 1rem 0; }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; min-width: 0; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); gap: 1rem; }
.panels .panel { margin: 0; }
.panel figcaption { margin-bottom: .5rem; }
.panel figcaption p { margin: 0; font-size: .875rem; color: var(--muted); }
.chart { display: block; width: 100%; max-width: 24rem; height: auto; }
.chart text { font-family: inherit; }
.chart path:hover { opacity: .75; }
.share { display: block; width: 100%; height: .75rem; margin: .75rem 0; border-radius: .25rem; overflow: hidden; }
.share rect { stroke: var(--paper); stroke-width: 1px; }
td .share { width: 7rem; margin: .375rem 0; }
td .share rect { stroke: var(--card); }
rect.done { fill: var(--done); } rect.cached { fill: var(--cached); }
rect.bar { fill: var(--accent); }
rect.failed { fill: var(--failed); } rect.unfinished { fill: var(--unfinished); }
.scroll {
  overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0 1rem;
}
table { border-collapse: collapse; width: 100%; font-size: .875rem; overflow-wrap: normal; }
caption { text-align: left; padding: .625rem .75rem .25rem; font-weight: 600; }
caption span { display: inline-block; position: sticky; left: .75rem; max-width: calc(100vw - 4rem); }
.panel caption span, .reason caption span { max-width: calc(100vw - 6.5rem); }
th, td { padding: .375rem .75rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--muted); font-weight: 600; white-space: nowrap; vertical-align: bottom; }
tbody th { font-weight: 500; }
.n { text-align: right; white-space: nowrap; }
.wide { min-width: 14rem; overflow-wrap: anywhere; }
details { margin: .5rem 0; }
summary { cursor: pointer; padding: .375rem 0; }
.panel details .scroll { max-height: 22rem; overflow-y: auto; margin-bottom: 0; }
.panel summary { color: var(--accent); font-size: .875rem; }
.reason { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .25rem .875rem; }
.reason .scroll { border-radius: .25rem; max-height: 34rem; overflow-y: auto; }
.reason summary b { font-weight: 600; }
@media print {
  :root { --paper: #fff; --card: #fff; --ink: #000; --muted: #333; --line: #999; color-scheme: light; }
  nav { display: none; }
  .scroll { overflow: visible; max-height: none; }
}
"""
