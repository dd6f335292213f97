"use strict";
(() => {
  const duration = JSON.parse(document.getElementById("data").textContent).duration;
  const timeline = document.getElementById("timeline");
  const lanes = document.getElementById("lanes");
  const details = document.getElementById("details");
  const cursor = document.getElementById("cursor");
  const player = document.getElementById("player");
  if (!lanes) return;

  // One lookup for all events: an hour of a call has more than a thousand utterances.
  const rows = new Map([...document.querySelectorAll("tr[data-utterance]")].map((row) => [row.dataset.utterance, row]));
  const charts = [...lanes.querySelectorAll(".lane")].map((lane) => [...lane.querySelectorAll(".utterance")].map((bar) => ({
    bar, row: rows.get(bar.dataset.utterance), start: Number(bar.dataset.start), end: Number(bar.dataset.end),
  })));
  const places = new Map(charts.flatMap((parts, lane) => parts.map((part, at) => [part.bar, { part, lane, at }])));
  const placeOf = (event) => places.get(event.target.closest(".utterance"));
  const stops = charts.map((parts) => parts[0]);

  const show = (part) => { details.textContent = part.bar.getAttribute("aria-label"); };
  const play = (part) => {
    if (!player) return;
    player.currentTime = part.start;
    player.play().catch(() => {});
  };
  const focus = (part) => {
    if (!part) return;
    // The tab key stops once in each lane. The arrow keys move within and between lanes.
    const { lane } = places.get(part.bar);
    stops[lane].bar.setAttribute("tabindex", "-1");
    stops[lane] = part;
    part.bar.setAttribute("tabindex", "0");
    part.bar.focus();
  };
  const nearest = (parts, time) => parts.reduce(
    (best, part) => (Math.abs(part.start - time) < Math.abs(best.start - time) ? part : best), parts[0]);
  const go = ({ part, lane, at }, key) => {
    const siblings = charts[lane];
    if (key === "ArrowRight") return siblings[at + 1];
    if (key === "ArrowLeft") return siblings[at - 1];
    if (key === "Home") return siblings[0];
    if (key === "End") return siblings[siblings.length - 1];
    const other = charts[lane + (key === "ArrowDown" ? 1 : -1)];
    return other ? nearest(other, part.start) : null;
  };

  lanes.addEventListener("focusin", (event) => {
    const place = placeOf(event);
    if (place) show(place.part);
  });
  lanes.addEventListener("mouseover", (event) => {
    const place = placeOf(event);
    if (place) show(place.part);
  });
  lanes.addEventListener("keydown", (event) => {
    const place = placeOf(event);
    if (!place) return;
    if (["ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) {
      event.preventDefault();
      focus(go(place, event.key));
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      play(place.part);
    }
  });

  const timeAt = (event) => {
    const box = lanes.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * duration;
  };
  const speaks = (part, time) => part.start <= time && time < part.end;
  for (const [lane, chart] of [...lanes.querySelectorAll(".curves")].entries()) {
    chart.addEventListener("mousemove", (event) => {
      const time = timeAt(event);
      const part = charts[lane].find((candidate) => speaks(candidate, time));
      if (part) show(part);
    });
  }
  lanes.addEventListener("click", (event) => {
    const place = placeOf(event);
    if (place) {
      focus(place.part);
      play(place.part);
    } else if (player && !event.target.closest(".names, h3")) {
      player.currentTime = timeAt(event);
      follow();
    }
  });

  if (!player) return;
  let lit = [];
  let shown = 0;
  const light = (part, on) => {
    part.bar.classList.toggle("now", on);
    part.row?.classList.toggle("now", on);
  };
  // Whether a time is visible: neither outside the scrolled part nor behind the labels at the left edge.
  const isVisible = (time) => {
    const view = timeline.getBoundingClientRect(), box = lanes.getBoundingClientRect();
    const x = box.left + (time / duration) * box.width;
    return x >= view.left + lanes.offsetLeft && x <= view.right;
  };
  const reveal = (time) => {
    if (!isVisible(time)) timeline.scrollLeft = (time / duration) * lanes.offsetWidth - timeline.clientWidth / 4;
  };
  const follow = () => {
    const now = Math.min(player.currentTime, duration);
    // Do not scroll back if the user has scrolled away from the playback position.
    const wasVisible = isVisible(shown);
    cursor.hidden = false;
    cursor.style.left = `${(now / duration) * 100}%`;
    if (wasVisible) reveal(now);
    shown = now;
    const speaking = charts.flatMap((parts) => parts.filter((part) => speaks(part, now)));
    for (const part of lit) if (!speaking.includes(part)) light(part, false);
    for (const part of speaking) if (!lit.includes(part)) light(part, true);
    lit = speaking;
  };
  player.addEventListener("timeupdate", follow);
  for (const name of ["play", "seeked"]) {
    player.addEventListener(name, () => {
      follow();
      reveal(shown);
    });
  }
})();
