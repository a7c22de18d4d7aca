// Runs beside the page, where sound comes in: hands it on in pieces.
"use strict";
const PIECE = 1024; // samples

class Listen extends AudioWorkletProcessor {
  constructor() {
    super();
    this._piece = new Float32Array(PIECE);
    this._filled = 0;
  }

  process([channels]) {
    // Without a channel the microphone is muted, or gone.
    if (!channels.length) return true;
    for (let i = 0; i < channels[0].length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this._piece[this._filled++] = sum / channels.length;
      if (this._filled === PIECE) {
        this.port.postMessage(this._piece.slice());
        this._filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("listen", Listen);
