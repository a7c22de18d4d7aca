// The timeline: a lane for each class, in it every utterance as high as its score.
"use strict";
(function () {
  const SVG = "http://www.w3.org/2000/svg";
  const AXIS = 22; // px below the lanes
  const STEPS = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400]; // s between ticks
  const TICK = 84; // px at least
  const MOST = 3000; // utterances drawn, the newest

  function make(name, attributes, parent) {
    const element = document.createElementNS(SVG, name);
    for (const key of Object.keys(attributes)) element.setAttribute(key, attributes[key]);
    if (parent) parent.append(element);
    return element;
  }

  class Timeline {
    constructor(place) {
      this._place = place;
      this._group = null;
      this._drawn = 0; // what stands at the right edge, s
      this._scale = 1; // px a second
    }

    // Seconds that fit legibly.
    get window() {
      return this._place.clientWidth < 520 ? 120 : 300;
    }

    // Draw what lies between `from` and `to`; `clock` writes a second. The axis of a live timeline
    // says how long ago it was.
    draw(record, colors, from, to, clock, live = false) {
      const labels = record.labels;
      const width = Math.max(200, this._place.clientWidth);
      const lane = Math.max(16, Math.min(width < 520 ? 34 : 54, Math.floor(220 / Math.max(1, labels.length))));
      const longest = labels.reduce((most, label) => Math.max(most, label.length), 4);
      const left = Math.min(110, 16 + 7 * longest);
      const height = Math.max(1, labels.length) * lane;
      const svg = make("svg", { width, height: height + AXIS, role: "img", viewBox: `0 0 ${width} ${height + AXIS}` });
      const shown = record.utterances.slice(-MOST).filter((one) => one.to >= from && one.from <= to);
      svg.setAttribute("aria-label", `${shown.length} utterances from ${clock(from)} to ${clock(to)}; the table below says the same in words`);
      this._patterns(svg, labels, colors);
      const clip = make("clipPath", { id: "lanes" }, make("defs", {}, svg));
      make("rect", { x: left, y: 0, width: width - left, height: height + AXIS }, clip);
      labels.forEach((label, i) => {
        make("line", { class: "lane", x1: left, x2: width, y1: (i + 1) * lane - 0.5, y2: (i + 1) * lane - 0.5 }, svg);
        make("rect", { x: 0, y: (i + 1) * lane - 11, width: 4, height: 8, rx: 1, fill: colors.get(label) }, svg);
        make("text", { x: 9, y: (i + 1) * lane - 4, class: "name" }, svg).textContent =
          label.length > 13 ? `${label.slice(0, 12)}…` : label;
      });
      this._drawn = to;
      this._scale = (width - left - 2) / Math.max(1, to - from);
      const x = (second) => left + (second - from) * this._scale;
      if (live) this._ago(svg, to, left, width, height);
      else this._ticks(svg, from, to, height, x, left, width, clock);
      const outer = make("g", { "clip-path": "url(#lanes)" }, svg);
      this._group = make("g", {}, outer);
      for (const one of shown) {
        this._bars(labels, lane, one.verdict.scores, one.top, one.unsure, x(one.from), x(one.to), colors,
          `${clock(one.from)}: ${one.verdict.label} ${Math.round(100 * one.verdict.confidence)} %${one.words ? `, ${one.words}` : ""}`);
      }
      const running = record.running;
      if (running && running.verdict) {
        const { scores, label, start, end } = running.verdict;
        this._bars(labels, lane, scores, edge.topOf(scores), label === edge.UNSURE, x(running.from), x(running.from + end - start), colors, "");
      }
      this._place.replaceChildren(svg);
    }

    // Let time go by without drawing everything again.
    shift(to) {
      if (this._group) this._group.setAttribute("transform", `translate(${-(to - this._drawn) * this._scale} 0)`);
    }

    _bars(labels, lane, scores, top, unsure, left, right, colors, title) {
      const group = make("g", {}, this._group);
      const width = Math.max(2, right - left - 1);
      labels.forEach((label, i) => {
        const share = scores[label] || 0;
        const height = share * (lane - 3);
        if (height < 0.7) return;
        const first = label === top;
        make("rect", {
          x: left.toFixed(1), y: ((i + 1) * lane - 0.5 - height).toFixed(1), width: width.toFixed(1), height: height.toFixed(1),
          rx: Math.min(2, width / 2, height / 2).toFixed(1),
          fill: first && unsure ? `url(#hatch${i})` : colors.get(label), class: first ? "top" : "other",
        }, group);
      });
      if (title) make("title", {}, group).textContent = title;
    }

    _ago(svg, to, left, width, height) {
      for (let seconds = 0; seconds <= this.window; seconds += this.window / 5 > 30 ? 60 : 30) {
        const text = seconds === 0 ? "now" : seconds % 60 ? `${seconds} s` : `${seconds / 60} min`;
        this._tick(svg, width - 2 - seconds * this._scale, left, width, height, text);
      }
    }

    _ticks(svg, from, to, height, x, left, width, clock) {
      const step = STEPS.find((seconds) => seconds * this._scale >= TICK) || 86400;
      const zone = to > 1e6 ? new Date(to * 1000).getTimezoneOffset() * 60 : 0; // whole hours of local time
      for (let s = Math.ceil((from - zone) / step) * step + zone; s <= to; s += step) {
        this._tick(svg, x(s), left, width, height, clock(s, step >= 60));
      }
    }

    _tick(svg, x, left, width, height, text) {
      make("line", { class: "tick", x1: x, x2: x, y1: 0, y2: height + 4 }, svg);
      const anchor = x > width - 24 ? "end" : x < left + 24 ? "start" : "middle";
      make("text", { x, y: height + 17, class: "time", "text-anchor": anchor }, svg).textContent = text;
    }

    _patterns(svg, labels, colors) {
      const defs = make("defs", {}, svg);
      labels.forEach((label, i) => {
        const pattern = make("pattern", { id: `hatch${i}`, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, defs);
        make("rect", { width: 5, height: 5, fill: colors.get(label), opacity: 0.25 }, pattern);
        make("rect", { width: 2.2, height: 5, fill: colors.get(label) }, pattern);
      });
    }
  }

  edge.Timeline = Timeline;
})();
