// Results, times and sizes in words.

export const clock = (seconds) => {
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, String(whole % 60).padStart(2, "0")];
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
};

export const size = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

export const percent = (share) => `${Math.round(share * 100)}%`;

export const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

export const values = (dimensions) =>
  Object.entries(dimensions).map(([name, value]) => `${name} ${value.toFixed(2)}`).join(", ");

/** Return the first words of core/results/verdict.py, which writes the headline of the report, and the main emotion. */
export const verdict = ({ emotion, score, margin, shares, channels }) => {
  if (margin < 0.1) return { words: "mixed" };
  if (channels.length === 1 && channels[0].utterances.length === 1) return { words: `${emotion} (score ${percent(score)})`, emotion };
  if (shares[emotion] <= 0.5) return { words: "mixed" };
  if (shares[emotion] === 1) return { words: `${emotion} throughout`, emotion };
  return { words: `mostly ${emotion} (${percent(shares[emotion])} of the time)`, emotion };
};
