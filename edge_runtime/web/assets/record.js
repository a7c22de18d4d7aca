// Events become a record: utterances, how things stand, where in time each lies.
"use strict";
(function () {
  const UNSURE = "unsure";
  const MOST_UTTERANCES = 20000;

  const isNumber = (x) => typeof x === "number" && Number.isFinite(x);
  const isText = (x) => typeof x === "string";
  const isShare = (x) => isNumber(x) && x >= 0 && x <= 1;
  const isObject = (x) => typeof x === "object" && x !== null && !Array.isArray(x);

  // What has to be there for an event to be shown; a type that is not here is none of ours.
  const FORMS = {
    source: (e) => isText(e.name),
    speech_start: (e) => isNumber(e.t),
    text: (e) => isText(e.text) && isNumber(e.start),
    text_status: (e) => isText(e.source) && isText(e.wanted) && isText(e.reason),
    audio_status: (e) => isText(e.what) && isText(e.message),
    emotion: isVerdict,
    revised: isVerdict,
    storage: (e) => isText(e.message),
    health: (e) => isNumber(e.real_time_factor),
  };

  function isVerdict(e) {
    return isNumber(e.start) && isNumber(e.end) && isText(e.label) && isShare(e.confidence) &&
      isObject(e.scores) && Object.values(e.scores).length > 0 && Object.values(e.scores).every(isShare);
  }

  // An event as it was written, or null where it cannot be one.
  function readEvent(value) {
    if (!isObject(value) || !isText(value.type) || !isNumber(value.t)) return null;
    if ("time" in value && !isNumber(Date.parse(value.time))) return null;
    const form = Object.hasOwn(FORMS, value.type) ? FORMS[value.type] : () => true;
    return form(value) ? value : null;
  }

  class Record {
    // `labels`: classes of the bundle, where they are known from the start.
    constructor(labels = []) {
      this.labels = [...labels];
      this.utterances = []; // oldest first
      this.running = null; // {start, words, verdict}
      this.wrong = new Map(); // what is wrong with the audio: message
      this.kept = new Map(); // what is kept on disk: message
      this.health = null;
      this.words = null; // what hears the words: text_status
      this.source = "";
      this.level = null;
      this.timed = true; // whether events bear the time of day
      this.first = 0; // from and to where on the axis, s
      this.last = 0;
      this._base = 0; // where the present source begins, where events bear no time
    }

    // Take one event; returns the utterance that it finished or changed, if it did.
    take(event) {
      const at = this._at(event);
      switch (event.type) {
        case "source":
          this.source = event.name;
          this.running = null;
          this.wrong.clear();
          this.kept.clear();
          return null;
        case "speech_start":
          this.running = { start: event.t, from: at, words: "", verdict: null };
          return null;
        case "text":
          return this._hear(event);
        case "text_status":
          this.words = event;
          return null;
        case "audio_status":
          this.wrong.delete(event.what);
          if (event.active) this.wrong.set(event.what, event.message);
          return null;
        case "storage":
          this.kept.delete(event.what);
          if (event.message) this.kept.set(event.what, event.message);
          return null;
        case "health":
          this.health = event;
          return null;
        case "emotion":
        case "revised":
          return this._judge(event, at);
        default:
          return null;
      }
    }

    _judge(event, at) {
      for (const label of Object.keys(event.scores)) {
        if (!this.labels.includes(label)) this.labels.push(label);
      }
      if (event.type === "emotion" && !event.final) {
        if (!this.running || this.running.start !== event.start) {
          this.running = { start: event.start, words: "", verdict: null };
        }
        this.running.from = at - (event.t - event.start);
        this.running.verdict = event;
        if (isText(event.text) && event.text) this.running.words = event.text;
        return null;
      }
      const finished = utterance(event, at);
      const known = event.type === "revised" ? this._find(event.start) : null;
      if (known) {
        const was = known.was || known.verdict.label; // at first
        return Object.assign(known, { said: at, verdict: event, words: finished.words, top: finished.top, unsure: finished.unsure, was });
      }
      if (event.type === "emotion") {
        // A bundle that does not read tells no words; what was heard of them stays.
        if (!finished.words && this.running && this.running.start === event.start) finished.words = this.running.words;
        this.running = null;
      }
      this.utterances.push(finished);
      if (this.utterances.length > MOST_UTTERANCES) this.utterances.shift();
      this._span(finished.from, finished.to);
      return finished;
    }

    _hear(event) {
      if (this.running && this.running.start === event.start) {
        this.running.words = event.text;
        return null;
      }
      const over = this._find(event.start);
      if (over && event.text) over.words = event.text;
      return over;
    }

    _find(start) {
      for (let i = this.utterances.length - 1; i >= 0 && i >= this.utterances.length - 32; i--) {
        if (this.utterances[i].verdict.start === start) return this.utterances[i];
      }
      return null;
    }

    // Where an event lies: seconds since 1970, or of the recording where it bears no time.
    _at(event) {
      if (event.time !== undefined) {
        const at = Date.parse(event.time) / 1000;
        this._span(at, at);
        return at;
      }
      this.timed = false;
      if (event.type === "source") this._base = this.last;
      const at = this._base + event.t;
      this._span(at, at);
      return at;
    }

    _span(from, to) {
      this.first = this.first === 0 ? from : Math.min(this.first, from);
      this.last = Math.max(this.last, to);
    }
  }

  function utterance(event, at) {
    const from = at - (event.t - event.start);
    return {
      from, // on the axis, s
      to: from + (event.end - event.start),
      said: at,
      verdict: event,
      words: isText(event.text) ? event.text : "",
      top: topOf(event.scores),
      unsure: event.label === UNSURE,
    };
  }

  function topOf(scores) {
    return Object.keys(scores).reduce((best, label) => (scores[label] > scores[best] ? label : best));
  }

  // A file of JSON lines; {record, events, damaged}.
  function readLines(text) {
    const record = new Record();
    let events = 0;
    let damaged = 0;
    for (const line of text.split("\n")) {
      if (line.trim() === "") continue;
      let event = null;
      try {
        event = readEvent(JSON.parse(line));
      } catch {
        event = null;
      }
      if (event === null) {
        damaged++;
      } else {
        events++;
        record.take(event);
      }
    }
    record.running = null;
    return { record, events, damaged };
  }

  // Shares of the labels among the verdicts since `from`, and what else there is to sum up.
  function summary(record, from) {
    const counts = new Map();
    const latencies = [];
    let total = 0;
    let seconds = 0;
    for (let i = record.utterances.length - 1; i >= 0; i--) {
      const one = record.utterances[i];
      if (one.said < from) break;
      total++;
      seconds += one.to - one.from;
      counts.set(one.verdict.label, (counts.get(one.verdict.label) || 0) + 1);
      const latency = one.verdict.type === "emotion" && isObject(one.verdict.latency_ms) ? one.verdict.latency_ms.total : null;
      if (isNumber(latency)) latencies.push(latency);
    }
    latencies.sort((a, b) => a - b);
    const quantile = (q) => (latencies.length ? latencies[Math.min(latencies.length - 1, Math.floor(q * latencies.length))] : null);
    return { counts, total, seconds, median: quantile(0.5), p95: quantile(0.95) };
  }

  window.edge = { UNSURE, Record, readEvent, readLines, summary, topOf };
})();
