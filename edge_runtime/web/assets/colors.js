// A color of its own for every class, the same on every page, legible on light and on dark.
"use strict";
(function () {
  // Hue and saturation of the common names; others get the hues that are farthest from all taken.
  const KNOWN = {
    angry: [4, 78], anger: [4, 78],
    happy: [40, 95], happiness: [40, 95], joy: [40, 95],
    neutral: [205, 14],
    sad: [217, 80], sadness: [217, 80],
    fear: [275, 60], fearful: [275, 60],
    disgust: [92, 60], disgusted: [92, 60],
    surprise: [322, 70], surprised: [322, 70],
    calm: [172, 65],
    bored: [24, 35], boredom: [24, 35],
    excited: [22, 90],
    frustrated: [345, 70],
    unsure: [0, 0],
  };
  const BACKGROUND = { light: 1, dark: 0.012 }; // relative luminance of a card
  // Contrast with it, for neighbours in turn. WCAG 1.4.11 wants 3 of graphics.
  const CONTRAST = { light: [3.6, 7, 5], dark: [6.4, 4, 9] };

  function luminance(hue, saturation, lightness) {
    const a = saturation * Math.min(lightness, 1 - lightness);
    const channel = (n) => {
      const k = (n + hue / 30) % 12;
      const c = lightness - a * Math.max(-1, Math.min(k - 3, 9 - k, 1));
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    };
    return 0.2126 * channel(0) + 0.7152 * channel(8) + 0.0722 * channel(4);
  }

  function shade(hue, saturation, scheme, step) {
    const wanted = CONTRAST[scheme][step % 3];
    const behind = BACKGROUND[scheme];
    const goal = scheme === "light" ? (behind + 0.05) / wanted - 0.05 : wanted * (behind + 0.05) - 0.05;
    let low = 0;
    let high = 1;
    for (let i = 0; i < 20; i++) {
      const middle = (low + high) / 2;
      if (luminance(hue, saturation / 100, middle) < goal) low = middle;
      else high = middle;
    }
    return `hsl(${Math.round(hue)} ${saturation}% ${(100 * low).toFixed(1)}%)`;
  }

  function farthest(hues) {
    const sorted = [...hues].sort((a, b) => a - b);
    let best = [0, -1];
    sorted.forEach((hue, i) => {
      const gap = ((sorted[(i + 1) % sorted.length] - hue + 360) % 360) || 360;
      if (gap > best[1]) best = [(hue + gap / 2) % 360, gap];
    });
    return best[0];
  }

  // A map from label to color; `scheme` is "light" or "dark".
  function colorsOf(labels, scheme) {
    const sorted = [...new Set(labels)].sort();
    const known = sorted.filter((label) => Object.hasOwn(KNOWN, label) && label !== edge.UNSURE);
    const hues = known.map((label) => KNOWN[label][0]);
    const colors = new Map(known.map((label) => [label, shade(...KNOWN[label], scheme, 0)]));
    let step = 1;
    for (const label of sorted) {
      if (colors.has(label) || label === edge.UNSURE) continue;
      const hue = hues.length ? farthest(hues) : 4;
      hues.push(hue);
      colors.set(label, shade(hue, 70, scheme, step++));
    }
    colors.set(edge.UNSURE, shade(...KNOWN.unsure, scheme, 0));
    return colors;
  }

  edge.colorsOf = colorsOf;
})();
