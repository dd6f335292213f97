// Ways to add recordings: files that are chosen or dropped, and the sample.

import { $, hint } from "./dom.js";

const carriesFiles = (event) => Boolean(event.dataTransfer && [...event.dataTransfer.types].includes("Files"));

const addSample = async (add) => {
  const found = await fetch("/static/sample.ogg").catch(() => null);
  if (!found?.ok) return hint("The sample cannot be read from the server.");
  add([new File([await found.blob()], "sample conversation.ogg", { type: "audio/ogg" })]);
};

/** Begin. `add(files)` is called with new recordings. */
export const start = (add) => {
  const picker = $("file"), zone = $("drop");
  $("choose").addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => { add(picker.files); picker.value = ""; });
  $("sample").addEventListener("click", () => addSample(add));
  // The whole page accepts files: the browser would open a file dropped elsewhere in place of the page.
  for (const kind of ["dragenter", "dragover"]) {
    addEventListener(kind, (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) zone.classList.remove("over"); });
  addEventListener("drop", (event) => {
    zone.classList.remove("over");
    if (!carriesFiles(event)) return;
    event.preventDefault();
    add(event.dataTransfer.files);
  });
};
