// Sound on its way to the model: to 16 kHz and int16, and cut into utterances.
"use strict";
(function () {
  const RATE = 16000;
  const FRAME = 320; // samples judged at a time, 20 ms
  const LOBES = 16; // of the sinc on each side
  const PASSED = 0.95; // of the band up to half the rate
  const SILENCE_DB = -90; // of digital silence
  // Beyond the margin of edge_runtime.segment, where the level is not the only judge.
  const EXTRA_DB = 6;

  const divisor = (a, b) => (b ? divisor(b, a % b) : a);

  // From any whole rate to 16 kHz, by a sinc under a Hann window.
  class Resampler {
    constructor(rate) {
      const common = divisor(rate, RATE);
      this._up = RATE / common; // steps of the input's grid that an output sample is apart: down / up
      this._down = rate / common;
      const cutoff = PASSED * Math.min(1, RATE / rate);
      this._half = Math.ceil((LOBES * PASSED) / cutoff);
      this._filters = [];
      for (let phase = 0; phase < this._up; phase++) this._filters.push(this._filter(phase / this._up, cutoff));
      this._held = new Float32Array(this._half); // silence before the first sample
      this._phase = 0;
    }

    _filter(fraction, cutoff) {
      const taps = new Float32Array(2 * this._half + 1);
      for (let i = 0; i < taps.length; i++) {
        const x = i - this._half - fraction;
        const sinc = x === 0 ? 1 : Math.sin(Math.PI * cutoff * x) / (Math.PI * cutoff * x);
        const window = Math.abs(x) > this._half ? 0 : 0.5 + 0.5 * Math.cos((Math.PI * x) / this._half);
        taps[i] = cutoff * sinc * window;
      }
      const sum = taps.reduce((a, b) => a + b);
      return taps.map((tap) => tap / sum);
    }

    // Float samples in, those that are then known at 16 kHz out.
    feed(samples) {
      if (this._up === this._down) return samples;
      const signal = new Float32Array(this._held.length + samples.length);
      signal.set(this._held);
      signal.set(samples, this._held.length);
      const found = [];
      let at = 0;
      while (at + 2 * this._half < signal.length) {
        const taps = this._filters[this._phase];
        let sum = 0;
        for (let i = 0; i < taps.length; i++) sum += taps[i] * signal[at + i];
        found.push(sum);
        this._phase += this._down;
        at += Math.floor(this._phase / this._up);
        this._phase %= this._up;
      }
      this._held = signal.slice(at);
      return Float32Array.from(found);
    }
  }

  const toInt16 = (samples) => Int16Array.from(samples, (x) => Math.max(-32768, Math.min(32767, Math.round(32768 * x))));

  // The rules of edge_runtime.segment, with the level alone as the judge of what is speech.
  class Segmenter {
    // `params` as in a bundle's manifest.
    constructor(params) {
      this._params = params;
      const frames = (ms) => Math.floor((ms * RATE) / 1000 / FRAME);
      this._stretch = frames(params.start_ms);
      this._keep = this._stretch + frames(params.lead_ms);
      this._tail = frames(params.tail_ms);
      this._end = frames(params.end_ms);
      this._pause = frames(params.max_pause_ms);
      this._floor = params.floor_db;
      this._most = Math.round((params.offset_seconds * RATE) / FRAME);
      this._seen = 0; // frames that the offset is the mean of
      this._offset = 0;
      this._rest = new Int16Array(0);
      this.position = 0; // samples judged
      this.level = SILENCE_DB; // of the last frame, dB
      this._listen();
    }

    _listen() {
      this.speaking = false;
      this._votes = [];
      this._before = [];
      this._pending = [];
      this._length = 0;
    }

    // Samples in; {start}, {samples} and {end} out, in order.
    feed(samples) {
      const signal = new Int16Array(this._rest.length + samples.length);
      signal.set(this._rest);
      signal.set(samples, this._rest.length);
      const found = [];
      let at = 0;
      for (; at + FRAME <= signal.length; at += FRAME) {
        const frame = this._centred(signal.slice(at, at + FRAME));
        this.position += FRAME;
        this._judge(frame, this._isVoiced(frame), found);
      }
      this._rest = signal.slice(at);
      return found;
    }

    // Close the running utterance, if there is one.
    finish() {
      const found = [];
      if (this.speaking) this._close(found);
      return found;
    }

    _centred(frame) {
      if (!this._most) return frame;
      const mean = frame.reduce((a, b) => a + b, 0) / FRAME;
      const before = this._seen ? this._offset : mean;
      this._seen = Math.min(this._seen + 1, this._most);
      this._offset = before + (mean - before) / this._seen;
      const slope = (this._offset - before) / FRAME;
      return frame.map((x, i) => Math.max(-32768, Math.min(32767, Math.round(x - before - slope * (i + 1)))));
    }

    _isVoiced(frame) {
      const energy = frame.reduce((sum, x) => sum + x * x, 0) / FRAME;
      this.level = energy > 0 ? Math.max(SILENCE_DB, 10 * Math.log10(energy / 32768 ** 2)) : SILENCE_DB;
      if (this.level > SILENCE_DB) {
        this._floor = Math.min(this.level, this._floor + (this._params.floor_rise_db * FRAME) / RATE);
      }
      return this.level >= this._floor + this._params.margin_db + EXTRA_DB;
    }

    _judge(frame, voiced, found) {
      if (!this.speaking) {
        this._before.push(frame);
        this._votes.push(voiced);
        if (this._before.length > this._keep) this._before.shift();
        if (this._votes.length > this._stretch) this._votes.shift();
        if (this._votes.filter(Boolean).length >= this._params.start_share * this._stretch) this._start(found);
      } else if (voiced) {
        for (const held of [...this._pending, frame]) found.push({ samples: held });
        this._length += (this._pending.length + 1) * FRAME;
        this._pending = [];
        this._voiced = this.position;
        if (this._length >= this._params.max_seconds * RATE) this._close(found);
      } else {
        this._pending.push(frame);
        if (this._pending.length >= this._end) this._close(found);
        else if (this._pending.length > this._pause) this._pending.splice(Math.floor(this._pause / 2), 1);
      }
    }

    _start(found) {
      const frames = this._before;
      this._listen();
      this.speaking = true;
      this._voiced = this.position;
      this._length = frames.length * FRAME;
      found.push({ start: (this.position - this._length) / RATE });
      for (const frame of frames) found.push({ samples: frame });
    }

    _close(found) {
      const tail = this._pending.slice(0, this._tail);
      for (const frame of tail) found.push({ samples: frame });
      found.push({ end: (this._voiced + tail.length * FRAME) / RATE });
      this._listen();
    }
  }

  Object.assign(edge, { RATE, Resampler, Segmenter, toInt16 });
})();
