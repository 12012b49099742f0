// Judges a timeline as a browser lays it out. tests/timeline.rs appends this to a page, with what to expect in
// `expected`; the verdict ends up in the page, one complaint a line.
const complaints = [];
const check = (holds, complaint) => { if (!holds) complaints.push(complaint); };
const all = (selector) => [...document.querySelectorAll(selector)];
const box = (element) => element.getBoundingClientRect();
const middle = (element) => { const b = box(element); return { x: (b.left + b.right) / 2, y: (b.top + b.bottom) / 2 }; };
const settled = () => new Promise((resolve) => setTimeout(resolve, 50));

// Relative luminance and contrast as WCAG 2 defines them.
function luminance(color) {
  const [r, g, b] = color.match(/[\d.]+/g).map(Number).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}
const style = (element, property) => getComputedStyle(element)[property];

const chart = document.querySelector("figure svg[role=img]");
const ground = style(document.body, "backgroundColor");

function fits() {
  const wide = document.documentElement.scrollWidth - innerWidth;
  check(wide <= 0, `the page is ${wide} px wider than the window`);
  const texts = [...chart.querySelectorAll("text")];
  for (const text of texts) {
    check(box(text).height >= 10, `"${text.textContent}" is ${box(text).height.toFixed(1)} px high`);
  }
  texts.forEach((one, n) => texts.slice(n + 1).forEach((other) => {
    const [a, b] = [box(one), box(other)];
    const apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
    check(apart, `"${one.textContent}" and "${other.textContent}" overlap`);
  }));
}

// Hosts are lanes: a row each, time to the right, and what a mark stands for is the row of the table that it leads to.
function lanes() {
  const rows = new Set([...chart.querySelectorAll("line.lane")].map((line) => Math.round(middle(line).y)));
  check(rows.size >= 8, `${rows.size} lanes`);
  const marks = [...chart.querySelectorAll("a[href^='#e']")].map((mark) => {
    const row = document.querySelector(mark.getAttribute("href"));
    const [millis, who] = row ? [...row.cells].map((cell) => cell.textContent) : [];
    return { mark, row, millis: Number(millis), who, at: middle(mark) };
  });
  check(marks.length === expected.events, `${marks.length} of ${expected.events} events are marked`);
  const rowOf = new Map();
  const edge = box(chart);
  for (const { mark, row, millis, who, at } of marks) {
    const name = mark.querySelector("title").textContent;
    check(row && name.startsWith(`${millis} ms`), `"${name}" leads to another event`);
    check(at.x >= edge.left && at.x <= edge.right && at.y >= edge.top && at.y <= edge.bottom, `"${name}" is outside`);
    const lane = [...rows].find((y) => Math.abs(y - at.y) <= 3);
    check(lane !== undefined, `"${name}" is on no lane`);
    check(!rowOf.has(who) || rowOf.get(who) === lane, `"${name}" is not on the lane of ${who}`);
    rowOf.set(who, lane);
  }
  const known = ["plan", "app", "replicator", "store", "operator", "oracle"].filter((who) => rowOf.has(who));
  check(new Set(known.map((who) => rowOf.get(who))).size === known.length, "two hosts share a lane");
  for (const who of expected.hosts) check(rowOf.has(who), `nothing of ${who} is shown`);
  const inTime = marks.toSorted((a, b) => a.millis - b.millis);
  check(inTime.every(({ at }, n) => n === 0 || at.x >= inTime[n - 1].at.x - 0.5), "time does not run to the right");
}

// Faults, acknowledgements and broken promises stand out, in the chart and in the tables.
function marked() {
  const paint = { Fault: "path", Promise: "path", Commit: "rect", Violation: "path", Note: "circle" };
  const back = style(chart, "backgroundColor");
  const colors = new Map();
  for (const [mark, shape] of Object.entries(paint)) {
    const drawn = chart.querySelector(`a.${mark} ${shape}`);
    check(drawn, `no ${mark} is drawn`);
    if (!drawn) continue;
    const color = style(drawn, "fill") === "none" ? style(drawn, "stroke") : style(drawn, "fill");
    const least = mark === "Note" ? 2 : 3;
    check(contrast(color, back) >= least, `${mark} has a contrast of ${contrast(color, back).toFixed(1)} in the chart`);
    check(!colors.has(color), `${mark} looks like ${colors.get(color)}`);
    colors.set(color, mark);
  }
  for (const cell of ["Fault", "Promise", "Commit"].map((mark) => document.querySelector(`.all tr.${mark} td:last-child`))) {
    const value = contrast(style(cell, "color"), ground);
    check(value >= 4.5, `"${cell.textContent}" has a contrast of ${value.toFixed(1)}`);
  }
  const broken = document.querySelector("section.broken");
  check(broken && box(broken).top < innerHeight && broken.textContent.includes(expected.promised),
    "the broken promise is not on the first screen");
}

async function works() {
  const notes = all(".all tr.Note");
  check(notes.length > 0 && notes.every((row) => style(row, "display") === "none"), "notes are not hidden at first");
  location.hash = notes[0].id;
  await settled();
  check(style(notes[0], "display") !== "none", "the note that a mark leads to stays hidden");
  check(document.querySelector(":target") === notes[0], "the mark does not lead to its event");
  document.querySelector("#notes").click();
  await settled();
  check(notes.every((row) => style(row, "display") !== "none"), "notes cannot be shown");
}

(async () => {
  try {
    fits();
    lanes();
    marked();
    await works();
  } catch (error) {
    complaints.push(`the page cannot be judged: ${error.message}`);
  }
  const verdict = document.createElement("pre");
  verdict.id = "verdict";
  verdict.textContent = complaints.length ? encodeURIComponent(complaints.join("\n")) : "none";
  document.body.append(verdict);
})();
