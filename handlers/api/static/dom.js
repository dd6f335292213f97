// Elements of the page, and the live region for screen readers.

export const $ = (id) => document.getElementById(id);

export const element = (name, className = "", text = "") => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
};

export const announce = (text) => { $("status").textContent = text; };

/** Show a message in the drop zone, and announce it. */
export const hint = (text) => {
  $("hint").textContent = text;
  announce(text);
};

/** Save a file in the browser's folder for downloads. */
export const save = (blob, name) => {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000); // the browser still reads it
};
