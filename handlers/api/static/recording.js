// A recording of the list, and its row.

import { $, element } from "./dom.js";
import { clock, counted, percent, size, values, verdict } from "./texts.js";

export const MIXED = "mixed";
const GONE = "The server no longer has this result: it was deleted, or it has expired. Remove it from the list.";

/** The states, in the order in which the list is sorted by state, with the words of the filter. */
export const STATES = {
  progress: "In progress",
  classified: "Classified",
  no_speech: "No speech",
  failed: "Not classified",
  gone: "No longer on the server",
};

export class Recording {
  /** `file` is null after a reload. `id` is null until the server has accepted the recording. */
  constructor({ name, added, file = null, id = null, speakers = "" }) {
    // The name of a file may have half of a surrogate pair, which no address can contain.
    this.name = name.toWellFormed?.() ?? name;
    Object.assign(this, { added, file, id, speakers, state: "progress", result: null, emotion: "" });
    this.aborted = new AbortController();
    this.#build();
    if (file) this.#show("", `${size(file.size)}, waiting`);
    else this.#show("", "Reading the result …");
  }

  get durationS() { return this.result?.audio?.duration_s ?? 0; }

  get words() { return `${this.outcome.textContent}, ${this.detail.textContent}`; }

  #build() {
    this.row = element("li", "item");
    this.open = element("button", "open");
    this.open.type = "button";
    this.open.disabled = true;
    [this.title, this.outcome, this.detail] = ["name", "outcome", "detail"].map((name) => element("span", name));
    this.title.textContent = this.title.title = this.name;
    this.open.append(this.title, this.outcome, this.detail);
    this.remove = element("button", "remove", "\u00d7");
    this.remove.type = "button";
    this.remove.title = "Remove from the list. The server keeps the result.";
    this.remove.setAttribute("aria-label", `Remove ${this.name} from the list`);
    this.progress = element("progress");
    this.progress.max = 1;
    this.progress.value = 0;
    this.progress.setAttribute("aria-label", `Progress of ${this.name}`);
    this.row.append(this.open, this.remove, this.progress);
  }

  #show(outcome, detail) {
    this.outcome.textContent = outcome;
    this.detail.textContent = detail;
  }

  /** Show the share of the file that is sent. */
  uploading(share) {
    if (share >= 1) { this.classifying(null); return; }
    this.progress.value = share;
    this.#show(percent(share), `${size(this.file.size)}, uploading`);
  }

  /** Show the share that is classified, or the time since the upload if the share is not known. */
  classifying(share) {
    this.since ??= performance.now();
    this.share = share;
    if (share === null) this.progress.removeAttribute("value");
    else this.progress.value = share;
    this.tick();
    this.timer ??= setInterval(() => this.tick(), 1000);
  }

  tick() {
    const passed = clock((performance.now() - this.since) / 1000);
    this.#show(this.share === null ? "" : percent(this.share), `Classifying for ${passed}`);
  }

  #finish(state) {
    clearInterval(this.timer);
    this.state = state;
    this.progress.hidden = true;
    this.row.classList.toggle("failed", state === "failed" || state === "gone");
  }

  done(result) {
    this.result = result;
    this.#finish(result.status);
    this.open.disabled = false;
    const length = result.audio ? clock(result.audio.duration_s) : size(result.source.size_bytes ?? 0);
    if (result.status === "no_speech") this.#show("no speech", `${length}, no speech found`);
    else if (result.status === "failed") this.#show("not classified", result.error.message);
    else {
      const utterances = result.channels.reduce((sum, channel) => sum + channel.utterances.length, 0);
      this.#showMood(result, `${length}, ${counted(utterances, "utterance")}`);
    }
  }

  #showMood(result, detail) {
    if (result.dimensions) {
      this.outcome.classList.add("values");
      this.#show(values(result.dimensions), detail);
      return;
    }
    const { words, emotion } = verdict(result);
    this.emotion = emotion ?? MIXED;
    this.#show(words, result.unsure ? `${detail}, unsure` : detail);
    if (!emotion) return;
    const swatch = element("i");
    swatch.dataset.emotion = emotion; // emotions.css has its colour and letter
    swatch.setAttribute("aria-hidden", "true");
    this.outcome.prepend(swatch);
  }

  fail(message) {
    this.#finish("failed");
    this.#show("failed", message);
  }

  gone() {
    this.result = null;
    this.#finish("gone");
    this.open.disabled = true;
    this.#show("gone", GONE);
  }

  mark(isCurrent) {
    this.row.classList.toggle("current", isCurrent);
    if (isCurrent) this.open.setAttribute("aria-current", "true");
    else this.open.removeAttribute("aria-current");
  }
}

/** Return the mode in which speakers are separated, or an empty text where the server offers no choice. */
export const chosenSpeakers = () => ($("speakers-option").hidden ? "" : $("speakers").value);
