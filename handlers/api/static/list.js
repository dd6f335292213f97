// The list of recordings: filter, order, removal, and the CSV of what it shows.

import { $, announce, element, save } from "./dom.js";
import * as kept from "./kept.js";
import { STATES } from "./recording.js";
import { reason, request, withRetries } from "./server.js";
import { counted } from "./texts.js";

const MIN_FILTERED = 2;
const MAX_CSV = 500; // the server's limit
const states = Object.keys(STATES);
const byName = (one, other) => one.name.localeCompare(other.name, "en", { numeric: true, sensitivity: "base" });
const newest = (one, other) => other.added - one.added;
const ORDERS = {
  newest,
  oldest: (one, other) => one.added - other.added,
  name: byName,
  emotion: (one, other) => (one.emotion || "\uffff").localeCompare(other.emotion || "\uffff", "en"),
  longest: (one, other) => other.durationS - one.durationS,
  shortest: (one, other) => one.durationS - other.durationS,
  state: (one, other) => states.indexOf(one.state) - states.indexOf(other.state),
};

const recordings = [];
const events = { open: () => {}, removed: () => {} };

export const all = () => recordings;

/** Return the time of a new entry in milliseconds, later than those of all others. */
const now = () => Math.max(Date.now(), ...recordings.map(({ added }) => added + 1));

export const add = (recording) => {
  recording.added ??= now();
  recordings.push(recording);
  recording.open.addEventListener("click", () => events.open(recording));
  recording.remove.addEventListener("click", () => removeOne(recording));
  update();
};

/** Keep a recording that the server has accepted for the next visit. */
export const keep = (recording) => {
  if (!kept.keep(recording)) $("not-kept").hidden = false;
};

const isShown = (recording) => {
  const name = $("of-name").value.trim().toLowerCase();
  const emotion = $("of-emotion").value, state = $("of-state").value;
  return recording.name.toLowerCase().includes(name)
    && (!emotion || recording.emotion === emotion) && (!state || recording.state === state);
};

const isFiltered = () => Boolean($("of-name").value.trim() || $("of-emotion").value || $("of-state").value);

/** Offer the values that recordings have, and keep a chosen one. */
const offer = (select, all, present) => {
  const offered = Object.entries(all).filter(([value]) => present.has(value) || select.value === value);
  const current = [...select.options].slice(1).map((option) => option.value);
  if (offered.map(([value]) => value).join("\n") === current.join("\n")) return;
  const chosen = select.value;
  const options = offered.map(([value, words]) => {
    const option = element("option", "", words);
    option.value = value;
    return option;
  });
  select.replaceChildren(select.options[0], ...options);
  select.value = chosen;
};

/** Show the recordings that pass the filter, in the chosen order. */
export const update = () => {
  const present = (field) => new Set(recordings.map((recording) => recording[field]).filter(Boolean));
  const emotions = [...present("emotion")].sort();
  offer($("of-emotion"), Object.fromEntries(emotions.map((emotion) => [emotion, emotion])), new Set(emotions));
  offer($("of-state"), STATES, present("state"));
  const order = ORDERS[$("order").value];
  const rows = [...recordings].sort((one, other) => order(one, other) || newest(one, other)).map(({ row }) => row);
  if (rows.some((row, at) => $("items").children[at] !== row) || $("items").children.length !== rows.length) {
    const focused = document.activeElement;
    $("items").replaceChildren(...rows);
    if (focused !== document.activeElement && $("items").contains(focused)) focused.focus({ preventScroll: true });
  }
  for (const recording of recordings) recording.row.hidden = !isShown(recording);
  updateTools();
};

const updateTools = () => {
  const shown = recordings.filter(isShown);
  const rows = shown.filter((recording) => recording.id && recording.result);
  const running = recordings.filter(({ state }) => state === "progress").length;
  const total = counted(recordings.length, "recording");
  $("list").hidden = recordings.length === 0;
  $("drop").classList.toggle("small", recordings.length > 0);
  $("filter").hidden = recordings.length < MIN_FILTERED && !isFiltered();
  $("emotion-filter").hidden = $("of-emotion").options.length === 1;
  $("count").textContent = [isFiltered() ? `${shown.length.toLocaleString("en")} of ${total}` : total, running ? `${running} in progress` : ""]
    .filter(Boolean).join(", ");
  $("nothing").hidden = shown.length > 0;
  $("csv").disabled = rows.length === 0;
};

// ------------------------------------------------------------------------------------------------------------ remove

const drop = (recording) => {
  recording.aborted.abort();
  recordings.splice(recordings.indexOf(recording), 1);
  if (recording.id) kept.forget(recording.id);
  events.removed(recording);
};

const removeOne = (recording) => {
  const next = recording.row.nextElementSibling ?? recording.row.previousElementSibling;
  drop(recording);
  update();
  (next?.querySelector(".remove") ?? $("choose")).focus();
  announce(`${recording.name} was removed from the list. The server keeps its result.`);
};

const clear = () => {
  const total = counted(recordings.length, "recording");
  const question = `Remove ${total} from this list?\n\nThe server keeps the results, but this page can no longer open them.`;
  if (!confirm(question)) return;
  [...recordings].forEach(drop);
  for (const name of ["of-name", "of-emotion", "of-state"]) $(name).value = "";
  update();
  $("choose").focus();
  announce(`The list is empty. ${total} removed.`);
};

// --------------------------------------------------------------------------------------------------------------- CSV

const refuseCsv = (why) => {
  announce(why);
  $("list-error").textContent = why;
};

const saveCsv = async () => {
  const rows = recordings.filter(({ row, id, result }) => !row.hidden && id && result);
  if (rows.length > MAX_CSV) {
    refuseCsv(`A CSV file has at most ${MAX_CSV} recordings, and the list shows ${rows.length.toLocaleString("en")}. Filter the list.`);
    return;
  }
  const order = [...$("items").children];
  rows.sort((one, other) => order.indexOf(one.row) - order.indexOf(other.row));
  const results = rows.map(({ id, name }) => ({ id, name }));
  const body = JSON.stringify({ results, per: $("per").value });
  const answer = await withRetries(() => request("/results.csv", { method: "POST", body, headers: { "Content-Type": "application/json" } }));
  if (answer.body.missing) {
    // Deleted since the page has read them. The others have results still.
    for (const recording of rows) if (answer.body.missing.includes(recording.id)) recording.gone();
    update();
    if (answer.body.missing.length < rows.length) await saveCsv();
    return;
  }
  if (!answer.ok) { refuseCsv(reason(answer)); return; }
  $("list-error").textContent = "";
  // Spreadsheets read UTF-8 only with a byte order mark.
  save(new Blob(["\ufeff", answer.text], { type: "text/csv" }), "audio-emotion.csv");
  announce(`Saved ${counted(rows.length, "recording")} as CSV.`);
};

/** Begin. `open(recording)` is called when the user opens a recording, and `removed(recording)` after its removal. */
export const start = ({ open, removed }) => {
  Object.assign(events, { open, removed });
  $("of-name").addEventListener("input", update);
  for (const name of ["of-emotion", "of-state", "order"]) $(name).addEventListener("change", update);
  $("clear").addEventListener("click", clear);
  $("csv").addEventListener("click", saveCsv);
};
