"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const drop = $("drop"), picker = $("file"), list = $("items"), frame = $("report");
  const limits = { request: 4500000, upload: Infinity };
  const MAX_FORM_BYTES = 2000; // of a form without its file
  const POLL_INTERVAL_S = 1;
  const MAX_DELAY_S = 10;
  const MAX_RETRIES = 12; // about a minute and a half with growing delays

  // -------------------------------------------------------------------------- classify one recording after another

  const queue = [];
  let busy = false;

  class Item {
    constructor(file, name) {
      this.file = file;
      this.speakers = $("speakers-option").hidden ? "" : $("speakers").value;
      this.name = name;
      this.element = document.createElement("li");
      this.element.className = "item";
      this.button = document.createElement("button");
      this.button.type = "button";
      this.button.disabled = true;
      for (const part of ["name", "outcome", "detail"]) {
        this[part + "Element"] = document.createElement("span");
        this[part + "Element"].className = part;
        this.button.append(this[part + "Element"]);
      }
      this.progress = document.createElement("progress");
      this.progress.max = 1;
      this.progress.setAttribute("aria-label", `Progress of ${name}`);
      this.element.append(this.button, this.progress);
      this.nameElement.textContent = name;
      this.setText("", `${size(file.size)}, waiting`);
      this.progress.value = 0;
      this.button.addEventListener("click", () => show(this, true));
    }

    setText(outcome, detail) {
      this.outcomeElement.textContent = outcome;
      this.detailElement.textContent = detail;
    }

    uploading(share) {
      if (share < 1) {
        this.progress.value = share;
        this.setText(`${Math.round(share * 100)}%`, `${size(this.file.size)}, uploading`);
      } else this.classifying();
    }

    classifying() {
      this.progress.removeAttribute("value");
      this.setText("", "Classifying …");
    }

    done(result) {
      this.result = result;
      this.progress.hidden = true;
      this.button.disabled = false;
      const length = result.audio ? clock(result.audio.duration_s) : size(this.file.size);
      if (result.status === "classified") {
        const count = result.channels.reduce((sum, channel) => sum + channel.utterances.length, 0);
        const detail = `${length}, ${count} utterance${count === 1 ? "" : "s"}`;
        if (result.dimensions) {
          this.outcomeElement.classList.add("values");
          this.setText(values(result.dimensions), detail);
        } else this.emotion(result, detail);
      } else if (result.status === "no_speech") this.setText("no speech", `${length}, no speech found`);
      else this.fail(result.error.message, "not classified");
    }

    emotion(result, detail) {
      const { words, emotion } = verdict(result);
      this.setText(words, detail);
      if (!emotion) return;
      const swatch = document.createElement("i");
      swatch.dataset.emotion = emotion; // emotions.css has its colour and letter
      swatch.setAttribute("aria-hidden", "true");
      this.outcomeElement.prepend(swatch);
    }

    fail(message, outcome = "failed") {
      this.element.classList.add("failed");
      this.progress.hidden = true;
      this.setText(outcome, message);
    }
  }

  const add = (files) => {
    for (const file of files) {
      const item = new Item(file, file.name || "recording");
      list.prepend(item.element);
      queue.push(item);
    }
    next();
  };

  const next = async () => {
    if (busy || !queue.length) return;
    busy = true;
    const item = queue.shift();
    announce(`Sending ${item.name}.`);
    try {
      const result = await classify(item);
      item.done(result);
      show(item, false);
      announce(`${item.name}: ${item.outcomeElement.textContent}, ${item.detailElement.textContent}`);
    } catch (error) {
      item.fail(error.message);
      announce(`${item.name}: ${error.message}`);
    }
    busy = false;
    next();
  };

  const classify = async (item) => {
    const bytes = item.file.size;
    if (bytes > limits.upload) {
      throw new Error(`The file has ${size(bytes)}. The limit is ${size(limits.upload)}.`);
    }
    if (bytes + MAX_FORM_BYTES > limits.request) return upload(item);
    const form = new FormData();
    if (item.speakers) form.append("speakers", item.speakers);
    form.append("file", item.file);
    // Retry only requests that the server refused at once: after other errors, it may have classified the recording.
    const answer = await withRetries(
      () => post("/recognize/", form, (share) => item.uploading(share)),
      ({ status, body }) => status === 429 || body.code === "busy",
    );
    if (answer.body.result) return answer.body.result;
    if (answer.body.code === "request_too_large") return upload(item);
    throw new Error(reason(answer));
  };

  // For large recordings: request a form, post it, poll for the result.
  const upload = async (item) => {
    const requested = await withRetries(() => request(item.speakers ? `/uploads?speakers=${item.speakers}` : "/uploads", { method: "POST" }), isTransient);
    if (!requested.ok) throw new Error(reason(requested));
    const { url, fields, result } = requested.body;
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    form.append("file", item.file);
    const answer = await post(url, form, (share) => item.uploading(share));
    if (!answer.ok) throw new Error(`The upload was refused. ${reason(answer)}`);
    item.classifying();
    for (;;) {
      await sleep(POLL_INTERVAL_S);
      const found = await withRetries(() => request(result), isTransient);
      if (found.status === 202) continue;
      if (!found.ok) throw new Error(reason(found));
      return found.body;
    }
  };

  // Throttling, an overloaded or restarting server, or a lost connection.
  const isTransient = ({ status }) => [0, 429, 502, 503, 504].includes(status);

  const withRetries = async (send, isRetryable) => {
    for (let retries = 0; ; retries++) {
      const answer = await send();
      if (retries === MAX_RETRIES || !isRetryable(answer)) return answer;
      await sleep(answer.retryAfterS || Math.min(MAX_DELAY_S, 2 ** retries));
    }
  };

  const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

  const request = async (url, options) => {
    try {
      const response = await fetch(url, options);
      return parsed(response.status, await response.text(), response.headers.get("Retry-After"));
    } catch (error) {
      return parsed(0, "");
    }
  };

  // API Gateway answers with its own JSON (`message`), and a proxy may answer with HTML.
  const parsed = (status, text, retryAfter = null) => {
    let body = null;
    try { body = JSON.parse(text); } catch (error) { /* not JSON */ }
    const retryAfterS = Math.min(MAX_DELAY_S, Number(retryAfter) || 0);
    return { status, ok: status >= 200 && status < 300, body: body || {}, retryAfterS };
  };

  const reason = ({ status, body }) =>
    body.detail || body.message || (status ? `The server answered ${status}.` : "The server cannot be reached.");

  // XMLHttpRequest, because fetch does not report the progress of an upload.
  const post = (url, form, onProgress) => new Promise((resolve) => {
    const sent = new XMLHttpRequest();
    sent.open("POST", url);
    sent.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    sent.upload.addEventListener("load", () => onProgress(1));
    sent.addEventListener("loadend", () => resolve(parsed(sent.status, sent.responseText)));
    sent.send(form);
  });

  // --------------------------------------------------------------------------------------------------- show a report

  let current = null, soundUrl = null, jsonUrl = null;

  const show = (item, focus) => {
    if (!item.result) return;
    if (current) {
      current.element.classList.remove("current");
      current.button.removeAttribute("aria-current");
    }
    current = item;
    item.element.classList.add("current");
    item.button.setAttribute("aria-current", "true");
    const id = item.result.source.key.split("/").pop();
    $("shown").hidden = false;
    $("shown-name").textContent = item.name;
    for (const url of [soundUrl, jsonUrl]) if (url) URL.revokeObjectURL(url);
    jsonUrl = URL.createObjectURL(new Blob([JSON.stringify(item.result, null, 2)], { type: "application/json" }));
    soundUrl = URL.createObjectURL(item.file);
    $("download").href = jsonUrl;
    $("download").download = `${item.name}.json`;
    $("open").href = `/results/${id}/report`;
    frame.src = `/results/${id}/report?player=1`;
    if (focus) $("shown-name").focus();
  };

  frame.addEventListener("load", () => {
    const inside = frame.contentDocument;
    if (!inside || !inside.body || !current) return;
    const player = inside.getElementById("player");
    if (player) {
      player.src = soundUrl;
      player.addEventListener("error", () => { player.hidden = true; }); // ffmpeg reads more formats than browsers play
    }
    // The report's title is the recording's key. The file name stands above the report.
    const title = inside.querySelector("h1");
    if (title) title.hidden = true;
    const fit = () => { frame.style.height = `${inside.documentElement.getBoundingClientRect().height}px`; };
    new ResizeObserver(fit).observe(inside.documentElement);
    fit();
  });

  // ----------------------------------------------------------------------------------------- files and the microphone

  $("choose").addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => { add(picker.files); picker.value = ""; });
  const carriesFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  // The whole page accepts files: the browser would open a file dropped elsewhere in place of the page.
  for (const kind of ["dragenter", "dragover"]) {
    addEventListener(kind, (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  addEventListener("drop", (event) => {
    drop.classList.remove("over");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    add(event.dataTransfer.files);
  });

  const RECORDING_TYPES = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];
  let recorder = null, isAskingPermission = false;

  const record = async () => {
    if (recorder) { recorder.stop(); return; }
    if (isAskingPermission) return;
    if (!navigator.mediaDevices || !window.MediaRecorder) {
      return hint("The browser allows the microphone only on pages served over HTTPS or from this machine.");
    }
    let stream;
    isAskingPermission = true;
    try {
      // Without the filters for calls, which change the sound of a voice.
      const unprocessed = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      stream = await navigator.mediaDevices.getUserMedia({ audio: unprocessed });
    } catch (error) {
      return hint(error.name === "NotFoundError" ? "No microphone was found." : "The microphone is blocked. Allow it for this page in the browser.");
    } finally {
      isAskingPermission = false;
    }
    const mimeType = RECORDING_TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    recorder = new MediaRecorder(stream, { mimeType, audioBitsPerSecond: 64000 });
    const chunks = [];
    recorder.addEventListener("dataavailable", (event) => chunks.push(event.data));
    const stopMeter = startMeter(stream);
    recorder.addEventListener("stop", () => {
      for (const track of stream.getTracks()) track.stop();
      stopMeter();
      const type = recorder.mimeType.split(";")[0];
      recorder = null;
      setRecording(false);
      const now = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
      add([new File(chunks, `microphone ${now}.${type.split("/")[1]}`, { type })]);
    });
    recorder.start(1000);
    setRecording(true);
    announce("Recording. Press again to stop.");
  };

  const setRecording = (on) => {
    $("record").setAttribute("aria-pressed", String(on));
    $("record-name").textContent = on ? "Stop and classify" : "Record";
    $("meter").hidden = !on;
  };

  const startMeter = (stream) => {
    const audio = new AudioContext();
    const analyser = audio.createAnalyser();
    analyser.fftSize = 1024;
    audio.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const canvas = $("level"), pen = canvas.getContext("2d");
    const bars = new Array(80).fill(0);
    const started = performance.now();
    const timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      bars.shift();
      bars.push(Math.min(1, 4 * Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length)));
      pen.clearRect(0, 0, canvas.width, canvas.height);
      pen.fillStyle = getComputedStyle(canvas).color;
      bars.forEach((bar, at) => {
        const height = Math.max(2, bar * canvas.height);
        pen.fillRect(at * 6 + 1, (canvas.height - height) / 2, 4, height);
      });
      $("clock").textContent = clock((performance.now() - started) / 1000);
    }, 60);
    return () => { clearInterval(timer); audio.close(); };
  };

  $("record").addEventListener("click", record);

  // ------------------------------------------------------------------------------------------------------------ texts

  const announce = (text) => { $("status").textContent = text; };
  const hint = (text) => { $("hint").textContent = text; announce(text); };
  const values = (dimensions) => Object.entries(dimensions).map(([name, value]) => `${name} ${value.toFixed(2)}`).join(", ");
  const percent = (share) => `${Math.round(share * 100)}%`;
  // The first words of core/verdict.py, which writes the headline of the report.
  const verdict = ({ emotion, score, margin, shares, channels }) => {
    if (margin < 0.1) return { words: "mixed" };
    if (channels.length === 1 && channels[0].utterances.length === 1) return { words: `${emotion} (score ${percent(score)})`, emotion };
    if (shares[emotion] <= 0.5) return { words: "mixed" };
    if (shares[emotion] === 1) return { words: `${emotion} throughout`, emotion };
    return { words: `mostly ${emotion} (${percent(shares[emotion])} of the time)`, emotion };
  };
  const clock = (seconds) => {
    const whole = Math.round(seconds);
    return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  };
  const size = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

  $("curl").textContent = `curl -F file=@recording.wav ${location.origin}/recognize/`;
  withRetries(() => request("/health"), isTransient).then(({ ok, body: health }) => {
    if (!ok) return hint("The server does not answer. Reload the page to try again.");
    limits.request = health.max_request_bytes;
    limits.upload = health.max_upload_bytes;
    $("speakers-option").hidden = !health.speakers_available;
    $("speakers").value = health.speakers;
    $("demo").hidden = !health.model.demo;
    if (health.model.dimensions) {
      $("lead").textContent = `Add a recording of speech. The report shows ${health.model.dimensions.join(", ")} of each utterance.`;
    }
    $("about").textContent = `Audio Emotion ${health.version}, model ${health.model.id} (${health.model.precision})`;
  });
})();
