// The page at /: classifies one recording after another, and lists the results of this browser.

import { $, announce, hint } from "./dom.js";
import * as drop from "./drop.js";
import * as kept from "./kept.js";
import * as list from "./list.js";
import * as microphone from "./microphone.js";
import { Recording, chosenSpeakers } from "./recording.js";
import * as report from "./report.js";
import { classify, limits, reason, request, stored, withRetries } from "./server.js";

const MAX_READERS = 4; // of results at once, when the page is opened

const queue = [];
let isBusy = false;
let showsNext = false; // the first result of those that are added together; the others do not interrupt the reader

const stepsOf = (recording) => ({
  uploading: (share) => recording.uploading(share),
  classifying: (share) => recording.classifying(share),
  accepted: (id) => {
    recording.id = id;
    list.keep(recording);
  },
});

// ---------------------------------------------------------------------------------------------- classify recordings

const add = (files) => {
  showsNext ||= !isBusy && !queue.length;
  for (const file of files) {
    const recording = new Recording({ name: file.name || "recording", file, speakers: chosenSpeakers() });
    list.add(recording);
    queue.push(recording);
  }
  next();
};

const next = async () => {
  if (isBusy || !queue.length) return;
  const recording = queue.shift();
  const { signal } = recording.aborted;
  if (!signal.aborted) {
    isBusy = true;
    announce(`Sending ${recording.name}.`);
    try {
      finish(recording, await classify(recording.file, recording.speakers, stepsOf(recording), signal), true);
    } catch (error) {
      fail(recording, error);
    }
    isBusy = false;
  }
  next();
};

const finish = (recording, result, isNew) => {
  if (recording.aborted.signal.aborted) return;
  recording.done(result);
  if (!recording.id) {
    recording.id = result.source.key.split("/").pop();
    list.keep(recording);
  }
  list.update();
  if (!isNew) return;
  if (showsNext) report.show(recording, false);
  showsNext = false;
  announce(`${recording.name}: ${recording.words}`);
};

const fail = (recording, error) => {
  if (recording.aborted.signal.aborted) return;
  recording.fail(error.message);
  list.update();
  announce(`${recording.name}: ${error.message}`);
};

// A reload would lose files that the server has not accepted yet.
addEventListener("beforeunload", (event) => {
  if (list.all().some(({ state, id }) => state === "progress" && !id)) event.preventDefault();
});

// ------------------------------------------------------------------------------------- results of earlier visits

const restore = async () => {
  const waiting = kept.load().map((entry) => new Recording(entry));
  waiting.forEach(list.add);
  const read = async () => {
    for (let recording = waiting.pop(); recording; recording = waiting.pop()) await readResult(recording);
  };
  await Promise.all(Array.from({ length: MAX_READERS }, read));
};

const readResult = async (recording) => {
  try {
    const result = await stored(recording.id, stepsOf(recording), recording.aborted.signal);
    if (result) finish(recording, result, false);
    else recording.gone();
  } catch (error) {
    fail(recording, error);
  }
  list.update();
};

// ------------------------------------------------------------------------------------------------------------ start

const readHealth = async () => {
  const { ok, body: health, ...answer } = await withRetries(() => request("/health"));
  if (!ok) return hint(`The server does not answer. Reload the page to try again. ${reason({ body: health, ...answer })}`);
  limits.request = health.max_request_bytes;
  limits.upload = health.max_upload_bytes;
  $("speakers-option").hidden = !health.speakers_available;
  $("speakers").value = health.speakers;
  $("demo").hidden = !health.model.demo;
  $("sample-note").hidden = health.model.demo;
  if (health.model.dimensions) {
    $("lead").textContent = `Add a recording of speech. The report shows ${health.model.dimensions.join(", ")} of each utterance.`;
  }
  $("about").textContent = `Audio Emotion ${health.version}, model ${health.model.id} (${health.model.precision})`;
};

$("curl").textContent = `curl -F file=@recording.wav ${location.origin}/recognize/`;
list.start({ open: (recording) => report.show(recording, true), removed: report.hide });
report.start({ gone: list.update });
drop.start(add);
microphone.start(add);
readHealth();
restore();
