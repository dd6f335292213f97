// Requests to the API: retries, errors in words, and the two ways to classify a recording.

const MAX_FORM_BYTES = 2000; // of a form without its file
// A recording of more than half a minute is uploaded: the server reports the progress of uploads only, and API Gateway
// ends each request after 30 seconds.
const MAX_DIRECT_BYTES = 500000;
const MIN_POLL_INTERVAL_S = 0.25;
const MAX_POLL_INTERVAL_S = 1;
const MAX_DELAY_S = 10;
const MAX_RETRIES = 12; // about a minute and a half with growing delays

/** Sizes in bytes, which `GET /health` replaces. */
export const limits = { request: 4500000, upload: Infinity };

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** Whether the server throttles, is overloaded or restarts, or the connection was lost. */
export const isTransient = ({ status }) => [0, 429, 502, 503, 504].includes(status);

export const withRetries = async (send, isRetryable = isTransient) => {
  for (let retries = 0; ; retries++) {
    const answer = await send();
    if (retries === MAX_RETRIES || !isRetryable(answer)) return answer;
    await sleep(answer.retryAfterS || Math.min(MAX_DELAY_S, 2 ** retries));
  }
};

// API Gateway answers with its own JSON (`message`), and a proxy may answer with HTML.
const parsed = (status, text, retryAfter = null) => {
  let body = null;
  try { body = JSON.parse(text); } catch { /* not JSON */ }
  const retryAfterS = Math.min(MAX_DELAY_S, Number(retryAfter) || 0);
  return { status, ok: status >= 200 && status < 300, body: body ?? {}, text, retryAfterS };
};

/** Send a request; the answer has status 0 if the server cannot be reached. */
export const request = async (url, options) => {
  try {
    const response = await fetch(url, options);
    return parsed(response.status, await response.text(), response.headers.get("Retry-After"));
  } catch {
    return parsed(0, "");
  }
};

export const reason = ({ status, body }) =>
  body.detail || body.message || (status ? `The server answered ${status}.` : "The server cannot be reached.");

// XMLHttpRequest, because fetch does not report the progress of an upload.
const post = (url, form, onProgress, signal) => new Promise((resolve) => {
  const sent = new XMLHttpRequest();
  sent.open("POST", url);
  sent.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) onProgress(event.loaded / event.total);
  });
  sent.upload.addEventListener("load", () => onProgress(1));
  sent.addEventListener("loadend", () => resolve(parsed(sent.status, sent.responseText)));
  signal.addEventListener("abort", () => sent.abort());
  sent.send(form);
});

/**
 * Classify a recording and return its result.
 *
 * `steps.uploading(share)` and `steps.classifying(share)` report the progress, the latter with null if it is not known.
 * `steps.accepted(id)` gives the id under which the result will be found. An aborted `signal` ends the work.
 */
export const classify = async (file, speakers, steps, signal) => {
  if (file.size > limits.upload) {
    throw new Error(`The file has ${(file.size / 1e6).toFixed(1)} MB. The limit is ${(limits.upload / 1e6).toFixed(1)} MB.`);
  }
  const largest = Math.min(MAX_DIRECT_BYTES, limits.request - MAX_FORM_BYTES);
  if (file.size > largest) return upload(file, speakers, steps, signal);
  const form = new FormData();
  if (speakers) form.append("speakers", speakers);
  form.append("file", file);
  const progress = (share) => (share < 1 ? steps.uploading(share) : steps.classifying(null));
  // Retry only requests that the server refused at once: after other errors, it may have classified the recording.
  const answer = await withRetries(
    () => post("/recognize/", form, progress, signal),
    ({ status, body }) => !signal.aborted && (status === 429 || body.code === "busy"),
  );
  if (answer.body.result) return answer.body.result;
  if (answer.body.code === "request_too_large") return upload(file, speakers, steps, signal);
  throw new Error(reason(answer));
};

// For large recordings: request a form, post it, poll for the result.
const upload = async (file, speakers, steps, signal) => {
  const path = speakers ? `/uploads?speakers=${speakers}` : "/uploads";
  const requested = await withRetries(() => request(path, { method: "POST", signal }), (answer) => !signal.aborted && isTransient(answer));
  if (!requested.ok) throw new Error(reason(requested));
  const { id, url, fields } = requested.body;
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("file", file);
  const answer = await post(url, form, (share) => steps.uploading(share), signal);
  if (!answer.ok) throw new Error(`The upload was refused. ${reason(answer)}`);
  steps.accepted(id);
  const result = await stored(id, steps, signal);
  if (!result) throw new Error("The server has lost the recording. Add it again.");
  return result;
};

/** Wait for the result of an id and return it; null if the server does not know the id. */
export const stored = async (id, steps, signal) => {
  for (let delayS = MIN_POLL_INTERVAL_S; !signal.aborted; delayS = Math.min(MAX_POLL_INTERVAL_S, 2 * delayS)) {
    const found = await withRetries(() => request(`/results/${id}`, { signal }), (answer) => !signal.aborted && isTransient(answer));
    if (found.status === 404) return null;
    if (!found.ok) throw new Error(reason(found));
    if (found.status !== 202) return found.body;
    steps.classifying(found.body.progress ?? null);
    await sleep(delayS);
  }
  throw new Error("The recording was removed from the list.");
};
