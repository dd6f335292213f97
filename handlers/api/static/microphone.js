// The microphone: records until the second press, with a level meter.

import { $, announce, hint } from "./dom.js";
import { clock } from "./texts.js";

const RECORDING_TYPES = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];
let recorder = null, isAskingPermission = false;

const record = async (add) => {
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

/** Begin. `add(files)` is called with each recording. */
export const start = (add) => $("record").addEventListener("click", () => record(add));
