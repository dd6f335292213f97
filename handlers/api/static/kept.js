// The browser's own list of recordings: ids, file names and times in localStorage, so that results survive a reload.
//
// The list has no results, which stay on the server, and no audio: copies of recordings of people would stay in the
// profile of the browser after the page is closed. A report gets its audio back when the user chooses the file again.

const PREFIX = "audio-emotion/"; // an entry for each recording, so that two open pages do not overwrite each other's
const MAX_ENTRIES = 200; // the page reads every result when it is opened
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const entry = (key) => {
  try {
    const { name, added } = JSON.parse(localStorage.getItem(key));
    const id = key.slice(PREFIX.length);
    return ID.test(id) && typeof name === "string" && Number.isFinite(added) ? { id, name, added } : null;
  } catch {
    return null;
  }
};

/** Return the entries, oldest first; none if the browser allows no storage. */
export const load = () => {
  try {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
    return keys.map(entry).filter(Boolean).sort((one, other) => one.added - other.added);
  } catch {
    return [];
  }
};

/** Keep an entry in place of the oldest ones; return whether the browser stores it. */
export const keep = ({ id, name, added }) => {
  try {
    localStorage.setItem(PREFIX + id, JSON.stringify({ name, added }));
    for (const { id: oldest } of load().slice(0, -MAX_ENTRIES)) forget(oldest);
    return true;
  } catch {
    return false;
  }
};

export const forget = (id) => {
  try { localStorage.removeItem(PREFIX + id); } catch { /* no storage, so no entry */ }
};
