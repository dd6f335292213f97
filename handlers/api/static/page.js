"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const drop = $("drop"), picker = $("file"), list = $("items"), frame = $("report");
  const accepted = { request: 4500000, upload: Infinity };
  const FORM_BYTES = 2000; // what a form has around its file
  const AGAIN_S = 1;
  const LONGEST_PAUSE_S = 10;
  const PATIENCE = 12; // refusals and lost answers in a row, a minute and a half of growing pauses, before it is given up

  // ------------------------------------------------------------------ one recording after another

  const waiting = [];
  let busy = false;

  class Item {
    constructor(file, name) {
      this.file = file;
      this.name = name;
      this.element = document.createElement("li");
      this.element.className = "item";
      this.button = document.createElement("button");
      this.button.type = "button";
      this.button.disabled = true;
      for (const part of ["name", "said", "more"]) {
        this[`${part}Element`] = document.createElement("span");
        this[`${part}Element`].className = part;
        this.button.append(this[`${part}Element`]);
      }
      this.progress = document.createElement("progress");
      this.progress.max = 1;
      this.progress.setAttribute("aria-label", `Progress of ${name}`);
      this.element.append(this.button, this.progress);
      this.nameElement.textContent = name;
      this.tell("", `${size(file.size)}, waiting`);
      this.progress.value = 0;
      this.button.addEventListener("click", () => show(this, true));
    }

    tell(said, more) {
      this.saidElement.textContent = said;
      this.moreElement.textContent = more;
    }

    uploading(share) {
      if (share < 1) {
        this.progress.value = share;
        this.tell(`${Math.round(share * 100)} %`, `${size(this.file.size)}, uploading`);
      } else this.listening();
    }

    listening() {
      this.progress.removeAttribute("value");
      this.tell("", "Listening …");
    }

    done(result) {
      this.result = result;
      this.progress.hidden = true;
      this.button.disabled = false;
      const seconds = result.audio ? `${clock(result.audio.duration_s)}` : size(this.file.size);
      if (result.status === "classified") {
        const count = result.channels.reduce((sum, channel) => sum + channel.utterances.length, 0);
        this.tell(`${result.emotion} ${Math.round(result.score * 100)} %`,
          `${seconds}, ${count} utterance${count === 1 ? "" : "s"}`);
        const swatch = document.createElement("i");
        swatch.className = `e-${result.emotion}`; // its colour and letter are in emotions.css
        swatch.setAttribute("aria-hidden", "true");
        this.saidElement.prepend(swatch);
      } else if (result.status === "no_speech") this.tell("no speech", `${seconds}, nobody speaks in it`);
      else this.fail(result.error.message, "not classified");
    }

    fail(message, said = "failed") {
      this.element.classList.add("failed");
      this.progress.hidden = true;
      this.tell(said, message);
    }
  }

  const add = (files) => {
    for (const file of files) {
      const item = new Item(file, file.name || "recording");
      list.prepend(item.element);
      waiting.push(item);
    }
    next();
  };

  const next = async () => {
    if (busy || !waiting.length) return;
    busy = true;
    const item = waiting.shift();
    say(`${item.name} is being sent.`);
    try {
      const result = await classify(item);
      item.done(result);
      show(item, false);
      say(`${item.name}: ${item.saidElement.textContent}, ${item.moreElement.textContent}`);
    } catch (error) {
      item.fail(error.message);
      say(`${item.name}: ${error.message}`);
    }
    busy = false;
    next();
  };

  const classify = async (item) => {
    const bytes = item.file.size;
    if (bytes > accepted.upload) throw new Error(`It has ${size(bytes)}; at most ${size(accepted.upload)} are accepted.`);
    if (bytes + FORM_BYTES > accepted.request) return byUpload(item);
    const form = new FormData();
    form.append("file", item.file);
    // Only what was refused before any work was done: it must not be classified over and over.
    const answer = await patiently(
      () => post("/recognize/", form, (share) => item.uploading(share)),
      ({ status, body }) => status === 429 || body.code === "busy",
    );
    if (answer.body.result) return answer.body.result;
    if (answer.body.code === "request_too_large") return byUpload(item);
    throw new Error(reason(answer));
  };

  // The way for large recordings: ask for a form, post it, wait for the result.
  const byUpload = async (item) => {
    const asked = await patiently(() => ask("/uploads", { method: "POST" }), passes);
    if (!asked.ok) throw new Error(reason(asked));
    const place = asked.body;
    const form = new FormData();
    for (const [name, value] of Object.entries(place.fields)) form.append(name, value);
    form.append("file", item.file);
    const answer = await post(place.url, form, (share) => item.uploading(share));
    if (!answer.ok) throw new Error(`The upload was refused. ${reason(answer)}`);
    item.listening();
    for (;;) {
      await pause(AGAIN_S);
      const found = await patiently(() => ask(place.result), passes);
      if (found.status === 202) continue;
      if (!found.ok) throw new Error(reason(found));
      return found.body;
    }
  };

  // Throttling and a server that is overloaded or restarted pass; so does a network's bad moment.
  const passes = ({ status }) => [0, 429, 502, 503, 504].includes(status);

  const patiently = async (asked, again) => {
    for (let refused = 0; ; refused++) {
      const answer = await asked();
      if (refused === PATIENCE || !again(answer)) return answer;
      await pause(answer.retryAfterS || Math.min(LONGEST_PAUSE_S, AGAIN_S * 2 ** refused));
    }
  };

  const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

  const ask = async (url, options) => {
    try {
      const found = await fetch(url, options);
      return answered(found.status, await found.text(), found.headers.get("Retry-After"));
    } catch (error) {
      return answered(0, "");
    }
  };

  // Not every answer is the app's own: API Gateway refuses with a `message`, a proxy with a page.
  const answered = (status, text, retryAfter = null) => {
    let body = null;
    try { body = JSON.parse(text); } catch (error) { /* no JSON */ }
    const retryAfterS = Math.min(LONGEST_PAUSE_S, Number(retryAfter) || 0);
    return { status, ok: status >= 200 && status < 300, body: body || {}, retryAfterS };
  };

  const reason = ({ status, body }) =>
    body.detail || body.message || (status ? `The server answered ${status}.` : "The server cannot be reached.");

  // fetch does not tell how far an upload has come.
  const post = (url, form, told) => new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.upload.addEventListener("progress", (event) => { if (event.lengthComputable) told(event.loaded / event.total); });
    request.upload.addEventListener("load", () => told(1));
    request.addEventListener("loadend", () => resolve(answered(request.status, request.responseText)));
    request.send(form);
  });

  // --------------------------------------------------------------------------------- the report

  let current = null, sound = null, document_ = null;

  const show = (item, asked) => {
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
    for (const url of [sound, document_]) if (url) URL.revokeObjectURL(url);
    document_ = URL.createObjectURL(new Blob([JSON.stringify(item.result, null, 2)], { type: "application/json" }));
    sound = URL.createObjectURL(item.file);
    $("download").href = document_;
    $("download").download = `${item.name}.json`;
    $("open").href = `/results/${id}/report`;
    frame.src = `/results/${id}/report?player=1`;
    if (asked) $("shown-name").focus();
  };

  frame.addEventListener("load", () => {
    const inside = frame.contentDocument;
    if (!inside || !inside.body || !current) return;
    const player = inside.getElementById("player");
    if (player) {
      player.src = sound;
      player.addEventListener("error", () => { player.hidden = true; }); // not all that ffmpeg reads is played by browsers
    }
    // The report knows the recording by its key; the person by its name, which stands above already.
    const title = inside.querySelector("h1");
    if (title) title.hidden = true;
    const fit = () => { frame.style.height = `${inside.documentElement.getBoundingClientRect().height}px`; };
    new ResizeObserver(fit).observe(inside.documentElement);
    fit();
  });

  // ------------------------------------------------------------------------- files and the microphone

  $("choose").addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => { add(picker.files); picker.value = ""; });
  const carriesFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  // Anywhere on the page: a file dropped beside the field would replace the page otherwise.
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

  let recorder = null, allowing = false; // a second click while the browser asks the person is no second recording
  const KINDS = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];

  const record = async () => {
    if (recorder) { recorder.stop(); return; }
    if (allowing) return;
    if (!navigator.mediaDevices || !window.MediaRecorder) {
      return hint("The microphone is only there for pages that come by https or from this machine.");
    }
    let stream;
    allowing = true;
    try {
      // As it is: what a phone call's filters take away is part of how somebody sounds.
      const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
    } catch (error) {
      return hint(error.name === "NotFoundError" ? "There is no microphone." : "The browser does not let this page use the microphone.");
    } finally {
      allowing = false;
    }
    const type = KINDS.find((kind) => MediaRecorder.isTypeSupported(kind));
    recorder = new MediaRecorder(stream, { mimeType: type, audioBitsPerSecond: 64000 });
    const pieces = [];
    recorder.addEventListener("dataavailable", (event) => pieces.push(event.data));
    const stopMeter = meter(stream);
    recorder.addEventListener("stop", () => {
      for (const track of stream.getTracks()) track.stop();
      stopMeter();
      const kind = recorder.mimeType.split(";")[0];
      recorder = null;
      pressed(false);
      const now = new Date().toTimeString().slice(0, 8).replaceAll(":", "-");
      add([new File(pieces, `microphone ${now}.${kind.split("/")[1]}`, { type: kind })]);
    });
    recorder.start(1000);
    pressed(true);
    say("Recording. Press again to stop.");
  };

  const pressed = (on) => {
    $("record").setAttribute("aria-pressed", String(on));
    $("record-name").textContent = on ? "Stop and classify" : "Record";
    $("meter").hidden = !on;
  };

  const meter = (stream) => {
    const audio = new AudioContext();
    const listener = audio.createAnalyser();
    listener.fftSize = 1024;
    audio.createMediaStreamSource(stream).connect(listener);
    const samples = new Float32Array(listener.fftSize);
    const canvas = $("level"), pen = canvas.getContext("2d");
    const bars = new Array(80).fill(0);
    const started = performance.now();
    const timer = setInterval(() => {
      listener.getFloatTimeDomainData(samples);
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

  // ------------------------------------------------------------------------------------- small things

  const say = (text) => { $("status").textContent = text; };
  const hint = (text) => { $("hint").textContent = text; say(text); };
  const clock = (seconds) => {
    const whole = Math.round(seconds);
    return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  };
  const size = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

  $("curl").textContent = `curl -F file=@recording.wav ${location.origin}/recognize/`;
  patiently(() => ask("/health"), passes).then(({ ok, body: health }) => {
    if (!ok) return hint("The server does not answer.");
    accepted.request = health.max_request_bytes;
    accepted.upload = health.max_upload_bytes;
    $("demo").hidden = !health.model.demo;
    $("about").textContent = `Audio Emotion ${health.version}, model ${health.model.id} (${health.model.precision})`;
  });
})();
