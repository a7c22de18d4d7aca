// Puts a record on the page. What comes from elsewhere is set as text, never as markup.
"use strict";
(function () {
  const FIRST_SHOWN = 12; // utterances, and how many more each time
  const MOST_BARS = 8; // classes, of scores and shares
  const MOST_ROWS = 200; // of the table
  const LOWEST_DB = -60; // at the left end of the level
  const TROUBLES = {
    lost: "Microphone lost", muted: "Microphone muted", quiet: "Too quiet", clipping: "Too loud",
    offset: "Offset", hum: "Hum", dead_channel: "Dead channel", cancelling: "Channels cancel",
  };
  // Of a health event: what is shown by a name of its own, or not at all.
  const NAMED = new Set([
    "type", "t", "time", "dropped_ms", "invalid_samples", "real_time_factor", "rss_mb", "text_source",
    "text_lag_s", "text_dropped_s", "text_rss_mb", "text_real_time_factor", "text_lost_lines", "text_invalid_lines",
  ]);
  const UNITS = { ms: "ms", s: "s", mb: "MB", c: "°C", percent: "%" };

  const $ = (id) => document.getElementById(id);

  function make(name, attributes, ...inside) {
    const element = document.createElement(name);
    for (const key of Object.keys(attributes || {})) element.setAttribute(key, attributes[key]);
    element.append(...inside);
    return element;
  }

  const percent = (share) => `${Math.round(100 * share)} %`;

  function length(seconds) {
    if (seconds < 90) return `${Math.round(seconds)} s`;
    return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
  }

  const milliseconds = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;

  function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  class View {
    constructor() {
      this._timeline = new edge.Timeline($("timeline"));
      this._dark = matchMedia("(prefers-color-scheme: dark)");
      this._colors = new Map();
      this._colored = ""; // for which labels and scheme
      this._rows = new Map(); // by utterance
      this._shown = FIRST_SHOWN;
      this._due = false; // whether something is going to be drawn
      this.record = new edge.Record();
      this.live = false;
      this.connected = false;
      this.missed = 0;
      this.summarySeconds = 3600;
      this.ahead = 0; // s that the device's clock is ahead of this one's
      $("more").addEventListener("click", () => {
        this._shown += 4 * FIRST_SHOWN;
        this.draw();
      });
      $("timeline-table").addEventListener("toggle", () => this._table());
      this._dark.addEventListener("change", () => this.draw());
      new ResizeObserver(() => this._drawTimeline()).observe($("timeline"));
    }

    // Show another record from its beginning.
    show(record, live) {
      this.record = record;
      this.live = live;
      this._shown = FIRST_SHOWN;
      this._rows.clear();
      $("list").replaceChildren();
      $("label").textContent = "–";
      setText($("confidence"), "");
      $("level").hidden = true;
      setText($("said"), "");
    }

    // Draw all that may have changed.
    // How things stand with whoever sends the events.
    status(text, kind) {
      const place = $("connection");
      if (place.textContent !== text) place.textContent = text;
      place.className = `connection ${kind}`;
    }

    // With the next frame, once however often it is asked for.
    drawSoon() {
      if (this._due) return;
      this._due = true;
      // A hidden page is given no frames, and need not be drawn.
      requestAnimationFrame(() => {
        this._due = false;
        this.draw();
      });
    }

    draw() {
      this._paint();
      this._drawNow();
      this._drawTimeline();
      this._drawList();
      this._drawSummary();
      this._drawHealth();
      this._drawWarnings();
      this._table();
    }

    // Once a second: time goes by.
    tick() {
      if (!this.live || document.hidden) return;
      const level = this.record.level;
      if (level && Date.now() - level.came > 1500) this.drawLevel({ ...level, rms_db: LOWEST_DB, clipped: false, came: Infinity });
      if (this.connected) this._timeline.shift(this._edge());
    }

    // For a screen reader: one line, when an utterance is over.
    say(one) {
      const words = one.words ? `: ${one.words}` : "";
      const sure = one.unsure ? `unsure, perhaps ${one.top}` : one.verdict.label;
      setText($("said"), `${sure}, ${percent(one.verdict.confidence)}${words}`);
    }

    drawLevel(level) {
      this.record.level = level;
      $("level").hidden = false;
      const share = Math.min(1, Math.max(0, 1 - level.rms_db / LOWEST_DB));
      const meter = $("meter");
      meter.firstElementChild.style.transform = `scaleX(${share})`;
      meter.classList.toggle("clipped", Boolean(level.clipped));
      // A meter that tells a screen reader ten figures a second tells it nothing.
      const figure = level.clipped ? "clipped" : `${Math.round(Math.max(level.rms_db, -99))} dB`.replace("-", "−");
      meter.setAttribute("aria-valuenow", String(Math.round(Math.max(LOWEST_DB, Math.min(0, level.rms_db)))));
      meter.setAttribute("aria-valuetext", figure);
      setText($("level-figure"), figure);
    }

    clock(second, short) {
      if (!this.record.timed) {
        const whole = Math.max(0, Math.round(second));
        const parts = [Math.floor(whole / 60) % 60, whole % 60].map((n) => String(n).padStart(2, "0"));
        return whole >= 3600 ? `${Math.floor(whole / 3600)}:${parts.join(":")}` : parts.join(":");
      }
      const form = { hour: "2-digit", minute: "2-digit", ...(short ? {} : { second: "2-digit" }) };
      return new Date(1000 * second).toLocaleTimeString([], form);
    }

    _paint() {
      const scheme = this._dark.matches ? "dark" : "light";
      const key = JSON.stringify([scheme, this.record.labels]);
      if (key === this._colored) return;
      this._colored = key;
      this._colors = edge.colorsOf(this.record.labels, scheme);
      this._rows.clear();
      $("list").replaceChildren();
      $("scores").replaceChildren();
      $("shares").replaceChildren();
    }

    _color(label) {
      return this._colors.get(label) || this._colors.get(edge.UNSURE) || "gray";
    }

    _state() {
      const { wrong, running } = this.record;
      if (!this.live) return ["recording", "recording"];
      if (!this.connected) return ["disconnected", "off"];
      if (wrong.has("lost")) return ["microphone lost", "bad"];
      if (wrong.has("muted")) return ["microphone muted", "bad"];
      return running ? ["speaking", "on"] : ["listening", "idle"];
    }

    _drawNow() {
      const { running, utterances } = this.record;
      const last = utterances[utterances.length - 1];
      const [state, kind] = this._state();
      setText($("state"), state);
      $("state").className = `pill ${kind}`;
      setText($("now-title"), this.live ? (running ? "Now" : "Last") : "Last");
      const verdict = running ? running.verdict : last && last.verdict;
      const label = $("label");
      $("now").classList.toggle("running", Boolean(running));
      if (!verdict) {
        setText(label, running ? "…" : "–");
        setText($("confidence"), "");
        label.style.setProperty("--c", "transparent");
      } else {
        const top = edge.topOf(verdict.scores);
        const unsure = verdict.label === edge.UNSURE;
        setText(label, verdict.label);
        label.classList.toggle("unsure", unsure);
        label.style.setProperty("--c", this._color(unsure ? edge.UNSURE : top));
        setText($("confidence"), unsure ? `perhaps ${top}, ${percent(verdict.confidence)}` : percent(verdict.confidence));
      }
      setText($("words"), running ? running.words : (last ? last.words : ""));
      const scores = verdict ? verdict.scores : {};
      this._bars($("scores"), this._likeliest(scores));
    }

    // Labels and their shares, in the order of the bundle; of many the highest alone.
    _likeliest(shares) {
      const rows = this.record.labels.map((name) => [name, shares[name] || 0]);
      return rows.length <= MOST_BARS ? rows : rows.sort((a, b) => b[1] - a[1]).slice(0, MOST_BARS);
    }

    // Rows of a name, a bar and a share; `rows` keep their order.
    _bars(list, rows) {
      const names = rows.map(([name]) => name).join("\n");
      if (list.dataset.names !== names || list.childElementCount !== rows.length) {
        list.dataset.names = names;
        list.replaceChildren(...rows.map(([name]) => {
          const bar = make("i", { "aria-hidden": "true" });
          bar.style.setProperty("--c", this._color(name));
          if (name === edge.UNSURE) bar.className = "hatched";
          return make("li", {}, make("span", { class: "name" }, name), make("span", { class: "bar" }, bar), make("span", { class: "figure" }));
        }));
      }
      rows.forEach(([, share], i) => {
        const row = list.children[i];
        row.children[1].firstElementChild.style.transform = `scaleX(${share})`;
        setText(row.children[2], percent(share));
      });
    }

    // What stands at the right edge of the timeline, s.
    _edge() {
      return this.connected || !this.record.last ? Date.now() / 1000 + this.ahead : this.record.last;
    }

    _drawTimeline() {
      const { record } = this;
      const clock = (second, short) => this.clock(second, short);
      if (this.live) {
        const to = this._edge();
        setText($("timeline-title"), `Last ${this._timeline.window / 60} minutes`);
        this._timeline.draw(record, this._colors, to - this._timeline.window, to, clock, true);
      } else {
        setText($("timeline-title"), "Timeline");
        this._timeline.draw(record, this._colors, record.first, Math.max(record.first + 1, record.last), clock);
      }
    }

    _drawList() {
      const { utterances } = this.record;
      const list = $("list");
      const shown = utterances.slice(Math.max(0, utterances.length - this._shown)).reverse();
      const rows = shown.map((one) => {
        const key = `${one.verdict.label} ${one.verdict.confidence} ${one.words}`;
        let row = this._rows.get(one);
        if (!row || row.dataset.key !== key) {
          const fresh = this._row(one);
          fresh.dataset.key = key;
          if (row && row.parentNode) row.replaceWith(fresh);
          row = fresh;
          this._rows.set(one, row);
        }
        return row;
      });
      for (const one of [...this._rows.keys()]) if (!shown.includes(one)) this._rows.delete(one);
      rows.forEach((row, i) => {
        if (list.children[i] !== row) list.insertBefore(row, list.children[i] || null);
      });
      while (list.childElementCount > rows.length) list.lastElementChild.remove();
      $("none").hidden = utterances.length > 0;
      $("more").hidden = utterances.length <= this._shown;
      setText($("count"), utterances.length ? String(utterances.length) : "");
    }

    _row(one) {
      const { verdict } = one;
      const name = make("span", { class: `chip${one.unsure ? " unsure" : ""}` }, verdict.label);
      name.style.setProperty("--c", this._color(one.unsure ? edge.UNSURE : one.top));
      const ranked = Object.keys(verdict.scores).sort((a, b) => verdict.scores[b] - verdict.scores[a]);
      const bar = make("span", { class: "stack", role: "img", "aria-label": ranked.map((l) => `${l} ${percent(verdict.scores[l])}`).join(", ") });
      bar.title = bar.getAttribute("aria-label");
      for (const label of this.record.labels) {
        const part = make("i", {});
        part.style.setProperty("--c", this._color(label));
        part.style.flexGrow = String(verdict.scores[label] || 0);
        bar.append(part);
      }
      const stamp = new Date(1000 * one.said);
      const time = make("time", this.record.timed ? { datetime: stamp.toISOString() } : {}, this.clock(one.from));
      const notes = [length(one.to - one.from)];
      if (verdict.modality === "audio+text") notes.push("with words");
      if (verdict.modality === "text") notes.push("words alone");
      if (one.was && one.was !== verdict.label) notes.push(`revised, was ${one.was}`);
      return make("li", {},
        time, name, make("span", { class: "figure" }, percent(verdict.confidence)),
        make("p", { class: one.words ? "said" : "said quiet" }, one.words || (one.unsure ? `perhaps ${one.top}` : "no words")),
        bar, make("span", { class: "notes quiet" }, notes.join(" · ")));
    }

    _drawSummary() {
      const now = this.live ? this._edge() : Infinity;
      const sum = edge.summary(this.record, this.live ? now - this.summarySeconds : -Infinity);
      const whole = this.summarySeconds === 3600 ? "The last hour" : `The last ${length(this.summarySeconds)}`;
      setText($("summary-title"), this.live ? whole : "In all");
      setText($("total"), sum.total ? `${sum.total} ${sum.total === 1 ? "utterance" : "utterances"}` : "");
      const unsure = (sum.counts.get(edge.UNSURE) || 0) / sum.total;
      const shares = Object.fromEntries([...sum.counts].map(([name, count]) => [name, count / sum.total]));
      this._bars($("shares"), sum.total ? [...this._likeliest(shares), [edge.UNSURE, unsure]] : []);
      setText($("sum"), sum.total ? `${length(sum.seconds)} of speech, ${percent(unsure)} of the verdicts unsure` : "No verdict yet.");
      this._sum = sum;
    }

    _drawHealth() {
      const rows = [];
      const { health, words } = this.record;
      if (this._sum.median !== null) {
        rows.push(["Verdict after speech", `${milliseconds(this._sum.median)}, 95 % in ${milliseconds(this._sum.p95)}`]);
      }
      if (health) {
        rows.push(["Real-time factor", health.real_time_factor.toPrecision(2)]);
        rows.push(["Audio lost", health.dropped_ms > 0 ? `${length(health.dropped_ms / 1000)}` : "none"]);
        if (health.invalid_samples) rows.push(["Invalid samples", String(health.invalid_samples)]);
        if (health.rss_mb) rows.push(["Memory", `${Math.round(health.rss_mb)} MB${health.text_rss_mb ? `, words ${Math.round(health.text_rss_mb)} MB` : ""}`]);
        for (const key of Object.keys(health)) {
          const value = health[key];
          if (!NAMED.has(key) && (typeof value === "number" || typeof value === "boolean" || typeof value === "string")) rows.push(named(key, value));
        }
      }
      const from = words ? words.source : health && health.text_source;
      if (from) rows.push(["Words from", from === "off" ? "nowhere (off)" : from]);
      if (health && health.text_lag_s >= 0.5) rows.push(["Words behind", `${health.text_lag_s.toFixed(1)} s`]);
      if (health && health.text_dropped_s > 0) rows.push(["Without words", `${health.text_dropped_s.toFixed(1)} s`]);
      if (this.record.source) rows.push([this.live ? "Listening to" : "Recorded from", this.record.source]);
      if (this.record.level && this.record.level.form) rows.push(["Form", this.record.level.form]);
      if (this.missed) rows.push(["Missed by this page", `${this.missed} messages: the connection is slow`]);
      for (const message of this.record.kept.values()) rows.push(["Kept on disk", message]);
      if (!health) rows.push(["Health", this.live ? "first report after a minute" : "no report in it"]);
      const key = JSON.stringify(rows);
      if ($("health").dataset.key === key) return;
      $("health").dataset.key = key;
      $("health").replaceChildren(...rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    }

    _drawWarnings() {
      const { wrong, words } = this.record;
      const order = Object.keys(TROUBLES);
      const rows = [...wrong].sort((a, b) => order.indexOf(a[0]) - order.indexOf(b[0]))
        .map(([what, message]) => [Object.hasOwn(TROUBLES, what) ? TROUBLES[what] : what, message]);
      if (words && words.source !== words.wanted) rows.push([`Words from ${words.source}`, words.reason]);
      const key = JSON.stringify(rows);
      const place = $("warnings");
      if (place.dataset.key === key) return;
      place.dataset.key = key;
      place.hidden = rows.length === 0;
      place.firstElementChild.replaceChildren(...rows.map(([name, text]) => make("li", { role: "alert" }, make("strong", {}, name), ` ${text}`)));
    }

    _table() {
      if (!$("timeline-table").open) return;
      const rows = this.record.utterances.slice(-MOST_ROWS).reverse();
      $("timeline-table").querySelector("tbody").replaceChildren(...rows.map((one) => make("tr", {},
        make("td", {}, this.clock(one.from)), make("td", {}, one.verdict.label),
        make("td", {}, percent(one.verdict.confidence)), make("td", {}, one.words || "–"))));
    }
  }

  // A figure that this page does not know, by its key: `cpu_temperature_c` is "Cpu temperature", °C.
  function named(key, value) {
    const parts = key.split("_");
    const unit = parts.length > 1 && Object.hasOwn(UNITS, parts[parts.length - 1]) ? UNITS[parts.pop()] : "";
    const name = parts.join(" ");
    const shown = typeof value === "number" ? String(Math.round(10 * value) / 10) : value === true ? "yes" : value === false ? "no" : value;
    return [name.charAt(0).toUpperCase() + name.slice(1), unit ? `${shown} ${unit}` : shown];
  }

  edge.View = View;
})();
