"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const drop = $("drop"), picker = $("file"), list = $("items"), frame = $("report");
  const accepted = { request: 4500000, upload: Infinity };
  const FORM_BYTES = 2000; // what a form has around its file
  const AGAIN_MS = 1000;
  const POLL_LOST = 5; // answers that may be missing in a row: a network has its moments

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
    const answer = await post("/recognize/", form, (share) => item.uploading(share));
    const body = parsed(answer);
    if (body && body.result) return body.result;
    if (body && body.code === "request_too_large") return byUpload(item);
    throw new Error((body && body.detail) || `The server answered ${answer.status}.`);
  };

  // The way for large recordings: ask for a form, post it, wait for the result.
  const byUpload = async (item) => {
    const asked = await fetch("/uploads", { method: "POST" });
    const place = await asked.json();
    if (!asked.ok) throw new Error(place.detail);
    const form = new FormData();
    for (const [name, value] of Object.entries(place.fields)) form.append(name, value);
    form.append("file", item.file);
    const answer = await post(place.url, form, (share) => item.uploading(share));
    if (answer.status >= 300) throw new Error((parsed(answer) || {}).detail || `The upload was refused (${answer.status}).`);
    item.listening();
    for (let lost = 0; ; ) {
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      let found;
      try {
        found = await fetch(place.result);
        lost = 0;
      } catch (error) {
        if (++lost < POLL_LOST) continue;
        throw new Error("The server no longer answers.");
      }
      if (found.status === 202) continue;
      const body = await found.json();
      if (!found.ok) throw new Error(body.detail);
      return body;
    }
  };

  // fetch does not tell how far an upload has come.
  const post = (url, form, told) => new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.upload.addEventListener("progress", (event) => { if (event.lengthComputable) told(event.loaded / event.total); });
    request.upload.addEventListener("load", () => told(1));
    request.addEventListener("load", () => resolve({ status: request.status, text: request.responseText }));
    request.addEventListener("error", () => reject(new Error("The server cannot be reached.")));
    request.send(form);
  });

  const parsed = (answer) => {
    try { return JSON.parse(answer.text); } catch (error) { return null; }
  };

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

  let recorder = null;
  const KINDS = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];

  const record = async () => {
    if (recorder) { recorder.stop(); return; }
    if (!navigator.mediaDevices || !window.MediaRecorder) {
      return hint("The microphone is only there for pages that come by https or from this machine.");
    }
    let stream;
    try {
      // As it is: what a phone call's filters take away is part of how somebody sounds.
      const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      stream = await navigator.mediaDevices.getUserMedia({ audio: plain });
    } catch (error) {
      return hint(error.name === "NotFoundError" ? "There is no microphone." : "The browser does not let this page use the microphone.");
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
  fetch("/health").then((answer) => answer.json()).then((health) => {
    accepted.request = health.max_request_bytes;
    accepted.upload = health.max_upload_bytes;
    $("demo").hidden = !health.model.demo;
    $("about").textContent = `Audio Emotion ${health.version}, model ${health.model.id} (${health.model.precision})`;
  }).catch(() => hint("The server does not answer."));
})();
