"use strict";
(() => {
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const shown = (value, unit) => {
    if (value === null || value === undefined) return "–";
    if (unit === "s" && value < 1) return +(value * 1000).toPrecision(3) + " ms";
    const text = value >= 100 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(3));
    return unit === "/s" ? text + "/s" : unit ? text + " " + unit : text;
  };
  const names = { accepted: "accepted", projected: "projected", refused: "refused", lag: "events", lag_seconds: "seconds",
    post_p50: "p50", post_p99: "p99", visible_p50: "p50", visible_p99: "p99", dead_letters: "parked", streams: "open" };

  function options(figure, width, series, unit) {
    const axis = { stroke: css("--soft"), grid: { stroke: css("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    return {
      width, height: 150, legend: { show: false }, cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [Math.min(0, low || 0), high > 0 ? high * 1.1 : 1] } },
      axes: [{ ...axis, size: 28, space: 70, values: (_, ticks) => ticks.map((tick) => new Date(tick * 1000).toISOString().slice(...(ticks[ticks.length - 1] - ticks[0] > 172800 ? [5, 10] : ticks[1] - ticks[0] < 60 ? [11, 19] : [11, 16]))) }, { ...axis, size: 52, values: (_, ticks) => ticks.map((tick) => shown(tick, unit === "/s" ? "" : unit)) }],
      series: [{}, ...series.map((name, number) => ({ label: name, stroke: css("--c" + number), width: 2, spanGaps: false, points: { show: false },
        fill: series.length === 1 ? css("--c" + number) + "22" : undefined }))],
      hooks: { setCursor: [(plot) => values(figure, plot.data, plot.cursor.idx, series, unit)] },
    };
  }
  function values(figure, data, index, series, unit) {
    const at = index === null || index === undefined ? data[0].length - 1 : index;
    const line = figure.querySelector(".now-values");
    line.replaceChildren(...series.map((name, number) => {
      const span = document.createElement("span"), key = document.createElement("i");
      key.className = "key k" + number;
      span.append(key, (names[name] || name) + ": " + shown(data[number + 1][at], unit));
      return span;
    }));
    // The last that is known is not now if nobody has measured since.
    const step = data[0].slice(1).reduce((least, moment, number) => Math.min(least, moment - data[0][number]), Infinity);
    if ((index === null || index === undefined) && Date.now() / 1000 - data[0][at] > Math.max(60, 2.5 * step)) line.append(" at " + new Date(data[0][at] * 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC");
  }
  function draw(figure, columns) {
    const series = figure.dataset.names ? figure.dataset.names.split(",") : Object.keys(columns).filter((name) => name !== "at"), unit = figure.dataset.unit, box = figure.querySelector(".canvas");
    const data = [columns.at, ...series.map((name) => columns[name])];
    if (!columns.at.length) { figure.querySelector(".now-values").textContent = "No numbers yet."; return; }
    let before = box.plot;
    if (before && box.series !== series.join()) { before.destroy(); before = null; }
    box.series = series.join();
    if (before) { before.setData(data); } else { box.plot = new uPlot(options(figure, box.clientWidth, series, unit), data, box); }
    values(figure, data, null, series, unit);
    box.setAttribute("aria-label", figure.querySelector("figcaption").textContent + ": now " + figure.querySelector(".now-values").textContent);
  }
  async function plots(root) {
    try {
      const answer = await fetch(root.dataset.history);
      if (!answer.ok) throw new Error(String(answer.status));
      const columns = await answer.json();
      root.querySelectorAll(".plot").forEach((figure) => draw(figure, columns));
      const hint = document.getElementById("no-history");
      if (hint) { hint.hidden = columns.at.length > 1; hint.textContent = "The history begins now: the first point is there in ten seconds."; }
    } catch (_) {
      const hint = document.getElementById("no-history");
      if (hint) { hint.hidden = false; hint.textContent = "The numbers cannot be read now; this is tried again."; }
    }
  }
  document.querySelectorAll("[data-history]").forEach((root) => {
    plots(root);
    setInterval(() => document.hidden || plots(root), 10000);
    let waiting = 0;
    addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(() => root.querySelectorAll(".canvas").forEach((box) => box.plot && box.plot.setSize({ width: box.clientWidth, height: 150 })), 150); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { root.querySelectorAll(".canvas").forEach((box) => { if (box.plot) { box.plot.destroy(); box.plot = null; } }); plots(root); });
  });
  document.querySelectorAll(".plot[data-columns]").forEach((figure) => draw(figure, JSON.parse(figure.dataset.columns)));

  // Nobody is disturbed while typing: the next look brings what this one would have.
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const at = document.activeElement;
    if (at && at.matches("input,select,textarea") && event.detail.target.contains(at)) event.detail.shouldSwap = false;
  });

  // What is shown is old when the server does not answer: say so instead of showing it as if it were now.
  const main = document.querySelector("main"), note = document.createElement("p");
  note.className = "card problem-text"; note.setAttribute("role", "status");
  const sentence = (request) => {
    try { return "The console answers " + request.status + ": " + JSON.parse(request.responseText).error; } catch (_) { return "The console answers " + request.status + "."; }
  };
  const stale = (says) => {
    main.classList.add("stale");
    note.textContent = says + " What is shown here was seen before.";
    if (!note.isConnected) main.querySelector("h1").after(note);
  };
  for (const name of ["htmx:sendError", "htmx:timeout"]) document.body.addEventListener(name, () => stale("The console does not answer."));
  document.body.addEventListener("htmx:responseError", (event) => stale(sentence(event.detail.xhr)));
  document.body.addEventListener("htmx:afterSwap", () => { main.classList.remove("stale"); note.remove(); });
  const now = document.getElementById("now");
  if (now) {
    let open = false;
    document.body.addEventListener("htmx:beforeSwap", () => { const list = now.querySelector(".well-list"); open = !!list && list.open; });
    document.body.addEventListener("htmx:afterSwap", () => { const list = now.querySelector(".well-list"); if (list) list.open = open; });
  }

  // The live tail. A row is built of text nodes only: what users send is never markup.
  const live = document.getElementById("live");
  if (live) {
    const list = live.querySelector(".events"), state = live.querySelector("[role=status]"), form = live.querySelector("form");
    const button = live.querySelector("[data-pause]"), most = 200;
    let source = null, paused = false, counted = 0, waiting = [], last = "", retry = 0;
    const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
    const visible = (text) => text.replace(hidden, (found) => "\\u" + found.charCodeAt(0).toString(16).padStart(4, "0"));
    const row = (text) => {
      const item = document.createElement("li"), link = document.createElement("a"), meta = document.createElement("span"), code = document.createElement("code");
      let event = {};
      try { event = JSON.parse(text); } catch (_) { return null; }
      link.textContent = event.eventType; link.href = "/console/find?q=" + encodeURIComponent(event.eventId);
      meta.className = "meta"; meta.textContent = " " + event.timestamp + " · " + visible(String(event.userId)) + " ";
      code.textContent = visible(JSON.stringify(event.payload)).slice(0, 300);
      item.append(link, meta, code);
      return item;
    };
    const show = () => {
      if (paused || !waiting.length) return;
      const rows = waiting.splice(0).slice(-most).map(row).filter(Boolean).reverse();
      list.prepend(...rows);
      while (list.children.length > most) list.lastChild.remove();
    };
    const target = () => {
      const query = new URLSearchParams();
      for (const name of ["userId", "productId", "eventType"]) { const value = form.elements[name].value.trim(); if (value) query.set(name, value); }
      if (last) query.set("lastEventId", last);
      return "/events/stream?" + query;
    };
    // A browser tries again when a connection ends, and gives up for ever after any answer but 200: that of a proxy, too, while the console restarts.
    const refused = async (mine) => {
      let status = 0;
      try { status = (await fetch(target(), { method: "HEAD" })).status; } catch (_) { /* nobody answers: later, perhaps */ }
      if (mine !== source) return; // somebody has set another filter meanwhile
      if (status === 401) { location.assign("/console/sign-in"); return; }
      if (status === 400 || status === 410) last = "";
      state.textContent = status === 403 ? "This key or token may not follow events: it lacks the scope events:read." : "The stream is refused" + (status && status !== 200 ? " (" + status + ")" : "") + "; it is tried again every 5 s.";
      retry = setTimeout(connect, 5000);
    };
    const connect = () => {
      clearTimeout(retry);
      if (source) source.close(); else state.textContent = "Connecting…";
      const mine = source = new EventSource(target());
      const noted = (message) => { last = message.lastEventId || last; };
      mine.onopen = () => { state.textContent = "Connected; new events appear here."; };
      mine.onerror = () => {
        if (mine !== source) return;
        if (mine.readyState === EventSource.CLOSED) refused(mine); else state.textContent = "The stream is interrupted; the browser connects again.";
      };
      mine.addEventListener("begin", noted);
      for (const type of live.dataset.types.split(",")) mine.addEventListener(type, (message) => { noted(message); counted += 1; waiting.push(message.data); if (waiting.length > most) waiting.shift(); });
    };
    const open = () => { last = ""; list.replaceChildren(); connect(); };
    button.addEventListener("click", () => { paused = !paused; button.textContent = paused ? "Go on" : "Pause"; button.setAttribute("aria-pressed", String(paused)); show(); });
    setInterval(show, 250);
    setInterval(() => { live.querySelector("[data-rate]").textContent = counted + "/s"; counted = 0; }, 1000);
    addEventListener("pagehide", () => { clearTimeout(retry); if (source) source.close(); });
    addEventListener("pageshow", (event) => event.persisted && open()); // back, by a browser that has kept the page
    open();
  }
})();
