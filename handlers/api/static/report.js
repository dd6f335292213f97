// The report of one recording: shown in a frame, saved with its audio, or as JSON.

import { $, announce, save } from "./dom.js";
import { reason, request, withRetries } from "./server.js";
import { size } from "./texts.js";

const MAX_EMBEDDED_BYTES = 20000000; // as of `audio-emotion report`: a larger page opens slowly
const EMPTY_PLAYER = '<audio id="player" controls preload="auto"'; // core/report/sound.py writes it
const MEDIA_TYPE = /^(audio|video)\/[\w.+-]+$/;
const NO_AUDIO = "This report has no audio, because the page keeps no recordings after a reload.";
const NOT_PLAYED = "The browser cannot play this format, so the report has no audio. `audio-emotion report FILE` converts it.";
const LINKED = "The audio exceeds 20 MB. A saved report plays the recording from its own folder, so keep both together.";

let current = null, soundUrl = null, jsonUrl = null;
let onGone = () => {};

const addressOf = ({ id, name }, options = "") => `/results/${id}/report?name=${encodeURIComponent(name)}${options}`;

/** Return whether the browser plays a file: ffmpeg on the server reads more formats. */
const plays = (file) => new Promise((resolve) => {
  const audio = new Audio(), url = URL.createObjectURL(file);
  const finish = (answer) => () => {
    URL.revokeObjectURL(url);
    resolve(answer);
  };
  audio.addEventListener("loadedmetadata", finish(true), { once: true });
  audio.addEventListener("error", finish(false), { once: true });
  audio.preload = "metadata";
  audio.src = url;
});

/** Show the report of a recording that has a result. */
export const show = async (recording, isFocused) => {
  current?.mark(false);
  current = recording;
  recording.mark(true);
  $("shown").hidden = false;
  $("shown-name").textContent = recording.name;
  if (isFocused) $("shown-name").focus();
  // The result may have expired since the page has read it. The frame would show the browser's error page.
  if (isFocused && (await request(`/results/${recording.id}`)).status === 404) return leave(recording);
  recording.plays ??= recording.file ? await plays(recording.file) : undefined;
  if (current !== recording) return;
  for (const url of [soundUrl, jsonUrl]) if (url) URL.revokeObjectURL(url);
  jsonUrl = URL.createObjectURL(new Blob([JSON.stringify(recording.result, null, 2)], { type: "application/json" }));
  soundUrl = recording.plays ? URL.createObjectURL(recording.file) : null;
  $("download").href = jsonUrl;
  $("download").download = `${recording.name}.json`;
  $("open").href = addressOf(recording);
  describeSound(recording);
  $("report").src = addressOf(recording, recording.plays ? "&player=1" : "");
};

const describeSound = ({ file, plays: isPlayed }) => {
  const isTooLarge = file && file.size > MAX_EMBEDDED_BYTES;
  $("sound-note").textContent = !file ? NO_AUDIO : !isPlayed ? NOT_PLAYED : isTooLarge ? LINKED : "";
  $("sound").hidden = !$("sound-note").textContent;
  $("again").hidden = Boolean(file);
};

const leave = (recording) => {
  recording.gone();
  hide(recording);
  announce(`${recording.name}: ${recording.words}`);
  onGone();
};

/** Hide the report of a recording that has no result any more, or leaves the list. */
export const hide = (recording) => {
  if (current !== recording) return;
  recording.mark(false);
  current = null;
  $("shown").hidden = true;
  $("report").removeAttribute("src");
};

const fitFrame = () => {
  const inside = $("report").contentDocument;
  if (!inside?.body || !current) return;
  const player = inside.getElementById("player");
  if (player && soundUrl) player.src = soundUrl;
  // The name stands above the frame.
  const title = inside.querySelector("h1");
  if (title) title.hidden = true;
  const fit = () => { $("report").style.height = `${inside.documentElement.getBoundingClientRect().height}px`; };
  new ResizeObserver(fit).observe(inside.documentElement);
  fit();
};

// --------------------------------------------------------------------------------------------------------- save

const dataUrl = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.addEventListener("load", () => resolve(reader.result));
  reader.addEventListener("error", () => reject(new Error("The file can no longer be read: it was moved or changed. Choose it again.")));
  reader.readAsDataURL(new Blob([file], { type: MEDIA_TYPE.test(file.type) ? file.type : "" }));
});

/** Return the page that `audio-emotion report` writes, with the recording in it or beside it. */
const savedReport = async (recording) => {
  const isEmbedded = recording.plays && recording.file.size <= MAX_EMBEDDED_BYTES;
  const options = isEmbedded ? "&player=1" : recording.plays ? "&linked=1" : "";
  const answer = await withRetries(() => request(addressOf(recording, options)));
  if (!answer.ok) throw new Error(reason(answer));
  if (!isEmbedded) return answer.text;
  const sound = await dataUrl(recording.file);
  return answer.text.replace(EMPTY_PLAYER, () => `${EMPTY_PLAYER} src="${sound}"`);
};

const saveReport = async () => {
  const recording = current;
  try {
    save(new Blob([await savedReport(recording)], { type: "text/html" }), `${recording.name}.html`);
    announce(`Saved the report. ${$("sound-note").textContent}`);
  } catch (error) {
    $("sound-note").textContent = error.message;
    $("sound").hidden = false;
    announce(error.message);
  }
};

// ------------------------------------------------------------------------------------ the recording, after a reload

const chooseAgain = () => {
  const recording = current, [file] = $("again-file").files;
  $("again-file").value = "";
  if (!file || !recording) return;
  const expected = recording.result.source.size_bytes;
  if (expected && file.size !== expected) {
    const sizes = `${file.name} has ${file.size.toLocaleString("en")} bytes, the recording of this result has ${expected.toLocaleString("en")}`;
    $("sound-note").textContent = `This is another file: ${sizes}.`;
    announce($("sound-note").textContent);
    return;
  }
  recording.file = file;
  recording.plays = undefined;
  show(recording, false);
  announce(`The report has its audio again: ${size(file.size)}.`);
};

/** Begin. `gone()` is called after the server has answered that a result no longer exists. */
export const start = ({ gone }) => {
  onGone = gone;
  $("report").addEventListener("load", fitFrame);
  $("save").addEventListener("click", saveReport);
  $("again").addEventListener("click", () => $("again-file").click());
  $("again-file").addEventListener("change", chooseAgain);
};
