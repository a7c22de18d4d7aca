// The browser's microphone through the model, in this tab; what is heard goes nowhere else.
"use strict";
(function () {
  const PARTIAL = 0.5; // s between verdicts on a running utterance
  const HEALTH = 60; // s between reports
  const LEVEL = 0.1; // s between levels
  const $ = (id) => document.getElementById(id);

  const { model } = edge;
  const view = new edge.View();
  let record = new edge.Record(model.labels);
  let code = null; // what the C library exports
  let running = null; // {stream, context, ...} while it listens

  const draw = () => view.drawSoon();
  const status = (text, kind) => view.status(text, kind);

  async function load() {
    const answer = await fetch("edge_emotion.wasm");
    if (!answer.ok) throw new Error(`edge_emotion.wasm: ${answer.status} ${answer.statusText}`);
    code = (await WebAssembly.instantiate(await answer.arrayBuffer(), {})).instance.exports;
  }

  function explained(error) {
    if (!navigator.mediaDevices) return "a microphone is given to pages of https, or of localhost, alone";
    if (error.name === "NotAllowedError") return "the microphone is not allowed; the browser's address bar lets it";
    if (error.name === "NotFoundError") return "there is no microphone";
    return error.message;
  }

  async function start() {
    $("listen").disabled = true;
    try {
      if (!code) await load();
      const stream = await navigator.mediaDevices.getUserMedia({
        // What a browser does to make a voice pleasant takes away how it sounds.
        audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      });
      const context = new AudioContext();
      await context.audioWorklet.addModule("listen.js");
      await context.resume();
      const node = new AudioWorkletNode(context, "listen", { numberOfOutputs: 0 });
      context.createMediaStreamSource(stream).connect(node);
      begin(stream, context);
      node.port.onmessage = (message) => running && hear(message.data);
      stream.getAudioTracks()[0].onended = () => stop("the microphone is gone");
    } catch (error) {
      status(explained(error), "bad");
    }
    $("listen").disabled = false;
  }

  function begin(stream, context) {
    record = new edge.Record(model.labels);
    running = {
      stream, context,
      resampler: new edge.Resampler(context.sampleRate),
      segmenter: new edge.Segmenter(model.segment),
      epoch: Date.now(), // when its first sample came, ms
      start: 0, // of the utterance, s
      judged: 0, // when it was last, s
      busy: 0, // s
      health: HEALTH, level: 0, // when they are next, s
    };
    view.connected = true;
    view.show(record, true);
    take({ type: "source", t: 0, name: stream.getAudioTracks()[0].label || "microphone" });
    status("listening", "good");
    $("listen").textContent = "Stop";
    draw();
  }

  function stop(why) {
    if (!running) return;
    for (const boundary of running.segmenter.finish()) handle(boundary);
    for (const track of running.stream.getTracks()) track.stop();
    running.context.close();
    running = null;
    view.connected = false;
    status(why || "not listening", why ? "bad" : "idle");
    $("listen").textContent = "Listen";
    draw();
  }

  function hear(piece) {
    const begun = performance.now();
    const { segmenter } = running;
    const samples = edge.toInt16(running.resampler.feed(piece));
    for (const boundary of segmenter.feed(samples)) handle(boundary);
    const t = segmenter.position / edge.RATE;
    if (segmenter.speaking && t >= running.judged + PARTIAL && code.partial()) judge(t, false, begun);
    running.busy += (performance.now() - begun) / 1000;
    if (t >= running.level) {
      running.level = t + LEVEL;
      const clipped = piece.some((x) => Math.abs(x) >= 0.999);
      if (!document.hidden) view.drawLevel({ rms_db: segmenter.level, clipped, came: Date.now() });
    }
    if (t >= running.health) {
      running.health = t + HEALTH;
      take({ type: "health", t, dropped_ms: 0, real_time_factor: running.busy / t });
      draw();
    }
  }

  function handle({ start: begins, samples, end }) {
    if (begins !== undefined) {
      code.begin();
      running.start = running.judged = begins;
      take({ type: "speech_start", t: begins });
      draw();
    } else if (samples) {
      new Int16Array(code.memory.buffer, code.samples(), samples.length).set(samples);
      code.feed(samples.length);
    } else {
      const begun = performance.now();
      if (code.end()) judge(end, true, begun);
    }
  }

  function judge(t, final, begun) {
    const found = [...new Float32Array(code.memory.buffer, code.scores(), model.labels.length)];
    const index = code.label();
    running.judged = t;
    const finished = take({
      type: "emotion", t, final, start: running.start, end: t, modality: "audio",
      label: index < 0 ? edge.UNSURE : model.labels[index],
      confidence: Math.max(...found),
      scores: Object.fromEntries(model.labels.map((label, i) => [label, found[i]])),
      latency_ms: { total: performance.now() - begun },
    });
    if (finished) view.say(finished);
    draw();
  }

  function take(event) {
    return record.take({ ...event, time: new Date(running.epoch + 1000 * event.t).toISOString() });
  }

  $("about").textContent = `edge-emotion ${model.version} · bundle ${model.name} · in this browser`;
  $("listen").addEventListener("click", () => (running ? stop() : start()));
  setInterval(() => view.tick(), 1000);
  view.show(record, true);
  status("not listening", "idle");
  draw();
})();
