"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const MIN_SPAN_S = 5, PX_PER_S = 10, MIN_DEFAULT_SPAN_S = 30, LETTER_PX = 12, TICK_PX = 80;
  const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120];
  const LANE_PX = 44, ROW_PX = 20, BOX_PX = 17, ROWS_ON_A_PAGE = 25;

  const data = JSON.parse($("data").textContent);
  const { duration, labels, letters } = data;
  const MAX_SPAN_S = data.lanes.length > 4 ? 120 : 300; // an element for each utterance, in each lane
  const player = $("player"), lanes = $("lanes"), details = $("details");
  const parts = data.lanes.map(({ key, name, utterances }, lane) => utterances.map(
    ([start, end, emotion, values], at) => ({ id: `${key}-${at}`, name, lane, at, start, end, emotion, values })));
  const byId = new Map(parts.flat().map((part) => [part.id, part]));

  // ------------------------------------------------------------------------------------------------------- words
  const clock = (seconds) => {
    const whole = Math.round(seconds);
    const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, String(whole % 60).padStart(2, "0")];
    return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
  };
  const number = (value) => (data.dimensions ? value.toFixed(2) : `${Math.round(value * 100)}%`);
  const describe = ({ name, start, end, values }) => {
    const scores = labels.map((label, at) => [label, values[at]]);
    if (!data.dimensions) scores.sort((one, other) => other[1] - one[1]);
    return `${name}, ${clock(start)} to ${clock(end)}: ${scores.map(([label, value]) => `${label} ${number(value)}`).join(", ")}`;
  };

  // ---------------------------------------------------------------------------------------------------- elements
  const set = (element, attributes) => {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const draw = (name, attributes, text = "") => {
    const element = set(document.createElementNS(SVG, name), attributes);
    if (text) element.textContent = text;
    return element;
  };

  // ---------------------------------------------------------------------------------------------------- playback
  const play = (part) => {
    if (!player) return;
    player.currentTime = part.start;
    player.play().catch(() => {});
  };
  const toggle = () => (player.paused ? player.play().catch(() => {}) : player.pause());
  if (player) {
    document.addEventListener("keydown", (event) => {
      if (event.key !== " " || event.target.closest("button, input, select, audio, [role=button]")) return;
      event.preventDefault();
      toggle();
    });
  }

  // ------------------------------------------------------------------------------ the enlarged part of the recording
  const charts = lanes ? [...lanes.querySelectorAll(".rows")].map((row) => ({
    lane: row.querySelector(".lane"), curves: row.querySelector(".curves"), isDrawn: data.dimensions,
  })) : [];
  const view = { from: 0, span: duration };
  const bars = new Map(), rows = new Map();
  const stops = parts.map(() => 0);
  let lit = [];
  let shown = 0;

  const isInside = (part) => part.start < view.from + view.span && part.end > view.from;
  const bar = (part, width) => {
    const inside = (seconds) => `${((seconds / view.span) * 100).toFixed(3)}%`;
    const look = part.emotion < 0 ? "plain" : `e${part.emotion}`;
    const group = draw("g", {
      class: `utterance ${look}${lit.includes(part) ? " now" : ""}`, role: "button", tabindex: -1,
      "data-utterance": part.id, "aria-label": describe(part),
    });
    const box = { x: inside(part.start - view.from), y: 2, width: inside(part.end - part.start), height: LANE_PX - 4 };
    const opacity = part.emotion < 0 ? 0.6 : 0.25 + 0.75 * part.values[part.emotion];
    group.append(draw("rect", { class: "ground", ...box }), draw("rect", { class: "bar", ...box, "fill-opacity": opacity.toFixed(2) }));
    if (part.emotion >= 0 && ((part.end - part.start) / view.span) * width >= LETTER_PX) {
      const middle = inside((part.start + part.end) / 2 - view.from);
      group.append(draw("text", { x: middle, y: LANE_PX / 2 + 5 }, letters[part.emotion]));
    }
    return group;
  };
  const curve = (utterances, label, floor) => utterances.map(({ start, end, values }) =>
    `M${start} ${floor}V${(floor - values[label] * BOX_PX).toFixed(1)}H${end}V${floor}Z`).join("");
  const drawCurves = ({ curves }, utterances) => {
    curves.setAttribute("height", ROW_PX * labels.length);
    labels.forEach((_, label) => {
      const floor = ROW_PX * (label + 1) - 1;
      curves.append(draw("line", { class: "grid", x1: 0, x2: duration, y1: floor, y2: floor }),
        draw("path", { class: `curve e${label}`, d: curve(utterances, label, floor) }));
    });
  };
  const drawLane = (chart, lane) => {
    const width = chart.lane.getBoundingClientRect().width;
    const visible = parts[lane].filter(isInside);
    const groups = visible.map((part) => bar(part, width));
    visible.forEach((part, at) => bars.set(part.id, groups[at]));
    // The tab key stops once in each lane. The arrow keys move within and between lanes.
    (bars.get(parts[lane][stops[lane]].id) ?? groups[0])?.setAttribute("tabindex", 0);
    chart.lane.replaceChildren(...groups);
    if (chart.curves.hasAttribute("hidden")) return;
    if (!chart.isDrawn) drawCurves(chart, parts[lane]);
    chart.isDrawn = true;
    chart.curves.setAttribute("viewBox", `${view.from} 0 ${view.span} ${chart.curves.getAttribute("height")}`);
  };
  const drawAxis = () => {
    const width = $("axis").getBoundingClientRect().width || 1;
    const step = STEPS_S.find((step) => (step / view.span) * width >= TICK_PX) ?? STEPS_S.at(-1);
    const marks = [];
    for (let at = Math.ceil(view.from / step) * step; at <= view.from + view.span; at += step) {
      const place = (at - view.from) / view.span, x = `${place * 100}%`;
      marks.push(draw("line", { x1: x, x2: x, y1: 0, y2: 5 }),
        draw("text", { x, y: 18, "text-anchor": place < 0.05 ? "start" : place > 0.95 ? "end" : "middle" }, clock(at)));
    }
    $("axis").replaceChildren(...marks);
  };
  const drawControls = () => {
    const { from, span } = view, isWhole = span >= duration;
    set($("at"), { "aria-valuetext": `${clock(from)} to ${clock(from + span)}` });
    $("at").hidden = isWhole;
    $("at").value = isWhole ? 0 : (from / (duration - span)) * 1000;
    $("in").disabled = span <= MIN_SPAN_S;
    $("out").disabled = span >= Math.min(duration, MAX_SPAN_S);
    $("span").textContent = `${clock(from)} to ${clock(from + span)}`;
    $("window").hidden = isWhole;
    $("window").style.left = `${(from / duration) * 100}%`;
    $("window").style.width = `${(span / duration) * 100}%`;
  };
  const drawCursor = () => {
    if (!player) return;
    const place = (shown - view.from) / view.span;
    $("cursor").hidden = !isFollowing || place < 0 || place > 1;
    $("cursor").style.left = `${place * 100}%`;
    $("overview-cursor").hidden = !isFollowing;
    $("overview-cursor").style.left = `${(shown / duration) * 100}%`;
  };
  let isFollowing = false;
  const drawAll = () => {
    const focused = document.activeElement?.dataset?.utterance;
    bars.clear();
    charts.forEach(drawLane);
    drawAxis();
    drawControls();
    drawCursor();
    if (document.activeElement === document.body) bars.get(focused)?.focus({ preventScroll: true });
  };
  const move = (from, span = view.span) => {
    view.span = Math.max(Math.min(span, duration, MAX_SPAN_S), Math.min(MIN_SPAN_S, duration));
    view.from = Math.max(0, Math.min(from, duration - view.span));
    hide();
    drawAll();
  };
  const isVisible = (time) => time >= view.from && time <= view.from + view.span;
  const reveal = (time) => {
    if (!isVisible(time)) move(time - view.span / 4);
  };

  // ------------------------------------------------------------------------------------------- details and focus
  const hide = () => { if (details) details.hidden = true; };
  const place = (x, bottom) => {
    const page = $("timeline").getBoundingClientRect(), room = page.width - details.offsetWidth;
    details.style.left = `${Math.max(0, Math.min(x - page.left, room))}px`;
    details.style.top = `${bottom - page.top + 6}px`;
  };
  const show = (part, x) => {
    const box = bars.get(part.id).getBoundingClientRect();
    details.textContent = describe(part);
    details.hidden = false;
    place(x ?? box.left, box.bottom);
  };
  const focus = (part) => {
    if (!part) return;
    const outside = part.start < view.from || part.end > view.from + view.span;
    if (outside && view.span < duration) move(part.start - view.span / 4);
    bars.get(parts[part.lane][stops[part.lane]].id)?.setAttribute("tabindex", -1);
    stops[part.lane] = part.at;
    bars.get(part.id).setAttribute("tabindex", 0);
    bars.get(part.id).focus();
  };
  const nearest = (candidates, time) => candidates.reduce(
    (best, part) => (Math.abs(part.start - time) < Math.abs(best.start - time) ? part : best), candidates[0]);
  const neighbour = (part, key) => {
    const own = parts[part.lane];
    if (key === "ArrowRight") return own[part.at + 1];
    if (key === "ArrowLeft") return own[part.at - 1];
    if (key === "Home") return own[0];
    if (key === "End") return own.at(-1);
    const other = parts[part.lane + (key === "ArrowDown" ? 1 : -1)];
    return other ? nearest(other, part.start) : null;
  };
  const partOf = (event) => byId.get(event.target.closest(".utterance")?.dataset.utterance);
  const timeAt = (event, element) => {
    const box = element.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  };
  const speaks = (part, time) => part.start <= time && time < part.end;

  const listen = () => {
    lanes.addEventListener("focusin", (event) => { if (partOf(event)) show(partOf(event)); });
    lanes.addEventListener("focusout", hide);
    lanes.addEventListener("mouseover", (event) => { if (partOf(event)) show(partOf(event), event.clientX); });
    lanes.addEventListener("mouseleave", hide);
    lanes.addEventListener("keydown", (event) => {
      const part = partOf(event);
      if (event.key === "Escape") hide();
      if (!part) return;
      if (["ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) {
        event.preventDefault();
        focus(neighbour(part, event.key));
      } else if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        if (event.key === " " && player && !player.paused) player.pause();
        else play(part);
      }
    });
    charts.forEach(({ lane, curves }, at) => curves.addEventListener("mousemove", (event) => {
      const time = view.from + timeAt(event, lane) * view.span;
      const part = parts[at].find((candidate) => speaks(candidate, time));
      if (part) show(part, event.clientX);
    }));
    lanes.addEventListener("click", (event) => {
      const part = partOf(event), chart = event.target.closest(".lane, .curves");
      if (part) {
        focus(part);
        play(part);
      } else if (player && chart) {
        player.currentTime = view.from + timeAt(event, chart) * view.span;
        follow();
      }
    });
    $("in").addEventListener("click", () => move(view.from + view.span / 4, view.span / 2));
    $("out").addEventListener("click", () => move(view.from - view.span / 2, view.span * 2));
    $("at").addEventListener("input", () => move(($("at").value / 1000) * (duration - view.span)));
    $("all-scores")?.addEventListener("change", showScores);
    const strips = $("strips");
    const pan = (event) => move(timeAt(event, strips) * duration - view.span / 2);
    strips.addEventListener("pointerdown", (event) => {
      strips.setPointerCapture(event.pointerId);
      pan(event);
    });
    strips.addEventListener("pointermove", (event) => { if (strips.hasPointerCapture(event.pointerId)) pan(event); });
    strips.addEventListener("click", (event) => {
      if (!player) return;
      player.currentTime = timeAt(event, strips) * duration;
      follow();
    });
    addEventListener("resize", drawAll);
  };
  const showScores = () => {
    const isOn = $("all-scores").checked;
    lanes.classList.toggle("with-names", isOn);
    for (const element of document.querySelectorAll(".score")) element.toggleAttribute("hidden", !isOn);
    drawAll();
  };

  // -------------------------------------------------------------------------------------- the table of utterances
  const inOrder = parts.flat().sort((one, other) => one.start - other.start || one.lane - other.lane);
  const list = { first: 0 };
  const cell = (text, name = "") => {
    const element = document.createElement("td");
    element.className = name;
    element.textContent = text;
    return element;
  };
  const playButton = (part) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "\u25b6";
    button.dataset.utterance = part.id;
    button.setAttribute("aria-label", `Play ${part.name}, ${clock(part.start)}`);
    return button;
  };
  const tableRow = (part) => {
    const row = document.createElement("tr");
    row.dataset.utterance = part.id;
    row.classList.toggle("now", lit.includes(part));
    const name = cell(part.name, "name");
    if (player) name.prepend(playButton(part), " ");
    row.append(name, cell(clock(part.start)), cell(clock(part.end)));
    if (part.emotion >= 0) {
      const swatch = document.createElement("i");
      swatch.className = `swatch e${part.emotion}`;
      const mark = part.values[part.emotion] < data.unsureBelow ? ", unsure" : "";
      const emotion = cell(labels[part.emotion] + mark, "name");
      emotion.prepend(swatch);
      row.append(emotion, cell(number(part.values[part.emotion])));
    }
    const areFolded = !data.dimensions && !$("all-scores").checked;
    for (const value of part.values) {
      const score = cell(number(value), data.dimensions ? "" : "score");
      score.toggleAttribute("hidden", areFolded);
      row.append(score);
    }
    rows.set(part.id, row);
    return row;
  };
  const drawTable = () => {
    const lane = $("of-lane")?.value ?? "", emotion = $("of-emotion")?.value ?? "";
    const found = inOrder.filter((part) => (lane === "" || part.lane === Number(lane))
      && (emotion === "" || part.emotion === Number(emotion)));
    list.first = Math.min(list.first, Math.max(0, found.length - 1));
    const page = found.slice(list.first, list.first + ROWS_ON_A_PAGE);
    rows.clear();
    $("rows").replaceChildren(...page.map(tableRow));
    const count = found.length.toLocaleString("en");
    $("shown").textContent = found.length ? `${(list.first + 1).toLocaleString("en")} to ${(list.first + page.length).toLocaleString("en")} of ${count}` : "none";
    $("before").disabled = list.first === 0;
    $("after").disabled = list.first + ROWS_ON_A_PAGE >= found.length;
  };
  const turn = (pages) => {
    list.first = Math.max(0, list.first + pages * ROWS_ON_A_PAGE);
    drawTable();
  };

  // -------------------------------------------------------------------------------------------- follow the player
  const light = (part, isOn) => {
    bars.get(part.id)?.classList.toggle("now", isOn);
    rows.get(part.id)?.classList.toggle("now", isOn);
  };
  const follow = () => {
    if (!lanes) return;
    const now = Math.min(player.currentTime, duration);
    // Do not move back if the user has moved away from the playback position.
    const wasVisible = isVisible(shown);
    isFollowing = true;
    shown = now;
    if (wasVisible) reveal(now);
    drawCursor();
    const speaking = parts.flatMap((own) => own.filter((part) => speaks(part, now)));
    for (const part of lit) if (!speaking.includes(part)) light(part, false);
    for (const part of speaking) if (!lit.includes(part)) light(part, true);
    lit = speaking;
  };

  // -------------------------------------------------------------------------------------------------------- start
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-utterance]");
    if (!button) return;
    const part = byId.get(button.dataset.utterance);
    if (!lanes) play(part);
    else if (player) {
      reveal(part.start);
      play(part);
    } else focus(part);
  });
  if (!lanes) return;
  lanes.hidden = $("controls").hidden = $("utterances").hidden = false;
  listen();
  const fitting = Math.max(MIN_DEFAULT_SPAN_S, lanes.clientWidth / PX_PER_S);
  move(0, duration <= 1.5 * fitting ? duration : fitting);
  for (const name of ["of-lane", "of-emotion"]) {
    $(name)?.addEventListener("change", () => {
      list.first = 0;
      drawTable();
    });
  }
  $("before").addEventListener("click", () => turn(-1));
  $("after").addEventListener("click", () => turn(1));
  drawTable();
  if (!player) return;
  player.addEventListener("timeupdate", follow);
  for (const name of ["play", "seeked"]) {
    player.addEventListener(name, () => {
      follow();
      reveal(shown);
    });
  }
})();
