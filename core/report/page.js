"use strict";
(() => {
  const duration = JSON.parse(document.getElementById("data").textContent).duration;
  const lanes = document.getElementById("lanes");
  const details = document.getElementById("details");
  const cursor = document.getElementById("cursor");
  const player = document.getElementById("player");
  if (!lanes) return;
  const utterances = [...lanes.querySelectorAll(".utterance")];
  const start = (bar) => Number(bar.dataset.start);
  const end = (bar) => Number(bar.dataset.end);
  const rowOf = (bar) => document.querySelector(`tr[data-utterance="${bar.dataset.utterance}"]`);

  const show = (bar) => { details.textContent = bar.getAttribute("aria-label"); };
  const listen = (bar) => {
    if (!player) return;
    player.currentTime = start(bar);
    player.play().catch(() => {});
  };
  const focus = (bar) => {
    if (!bar) return;
    // One stop for the tab key in each lane; the arrows go on from there.
    for (const other of bar.parentNode.querySelectorAll(".utterance")) other.setAttribute("tabindex", "-1");
    bar.setAttribute("tabindex", "0");
    bar.focus();
  };
  const nearest = (lane, time) => {
    const bars = [...lane.querySelectorAll(".utterance")];
    return bars.reduce((best, bar) => (Math.abs(start(bar) - time) < Math.abs(start(best) - time) ? bar : best), bars[0]);
  };
  const go = (bar, key) => {
    const siblings = [...bar.parentNode.querySelectorAll(".utterance")];
    const all = [...lanes.querySelectorAll(".lane")];
    const at = siblings.indexOf(bar);
    const lane = all.indexOf(bar.parentNode);
    if (key === "ArrowRight") return siblings[at + 1];
    if (key === "ArrowLeft") return siblings[at - 1];
    if (key === "Home") return siblings[0];
    if (key === "End") return siblings[siblings.length - 1];
    const other = all[lane + (key === "ArrowDown" ? 1 : -1)];
    return other ? nearest(other, start(bar)) : null;
  };

  for (const bar of utterances) {
    bar.addEventListener("mouseenter", () => show(bar));
    bar.addEventListener("focus", () => show(bar));
    bar.addEventListener("click", () => { focus(bar); listen(bar); });
    bar.addEventListener("keydown", (event) => {
      if (["ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) {
        event.preventDefault();
        focus(go(bar, event.key));
      } else if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        listen(bar);
      }
    });
  }

  for (const chart of lanes.querySelectorAll(".curves")) {
    const lane = utterances.filter((bar) => bar.dataset.utterance.startsWith(`${chart.dataset.channel}-`));
    chart.addEventListener("mousemove", (event) => {
      const box = chart.getBoundingClientRect();
      const time = ((event.clientX - box.left) / box.width) * duration;
      const bar = lane.find((candidate) => start(candidate) <= time && time < end(candidate));
      if (bar) show(bar);
    });
  }

  if (!player) return;
  const follow = () => {
    const now = player.currentTime;
    cursor.hidden = false;
    cursor.style.left = `${Math.min(100, (now / duration) * 100)}%`;
    for (const bar of utterances) {
      const speaks = start(bar) <= now && now < end(bar);
      bar.classList.toggle("now", speaks);
      rowOf(bar)?.classList.toggle("now", speaks);
    }
  };
  player.addEventListener("timeupdate", follow);
  player.addEventListener("seeked", follow);
  lanes.addEventListener("click", (event) => {
    if (event.target.closest(".utterance")) return;
    const box = lanes.getBoundingClientRect();
    player.currentTime = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) * duration;
    follow();
  });
})();
