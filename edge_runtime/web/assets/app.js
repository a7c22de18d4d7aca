// Where events come from: the device, by a WebSocket that comes back by itself, or a file.
"use strict";
(function () {
  const FIRST_WAIT = 0.5; // s until it is tried again; then twice as long each time
  const LONGEST_WAIT = 15;
  const SILENT = 40; // s without a word, after which the connection counts as dead
  const MOST_BYTES = 64e6; // of a recording
  const KEPT = "edge-emotion token"; // in the browser's storage
  const $ = (id) => document.getElementById(id);

  const view = new edge.View();
  const served = location.protocol === "http:" || location.protocol === "https:";
  let record = new edge.Record(); // what is live, even while a recording is shown
  let socket = null;
  let wait = FIRST_WAIT;
  let retry = 0; // when it is tried again, ms; 0 while connected
  let heard = 0; // when a message came last, ms

  const draw = () => view.drawSoon();
  const status = (text, kind) => view.status(text, kind);

  // The token comes in the address, behind #, which no browser sends; it is kept for the next time.
  function token() {
    const given = /[#&]token=([A-Za-z0-9._~-]+)/.exec(location.hash);
    try {
      if (given) {
        localStorage.setItem(KEPT, given[1]);
        history.replaceState(null, "", location.pathname + location.search);
      }
      return localStorage.getItem(KEPT) || "";
    } catch {
      return given ? given[1] : ""; // storage is forbidden: the address keeps it
    }
  }

  function connect() {
    retry = 0;
    const address = new URL("events", location.href);
    address.protocol = location.protocol.replace("http", "ws");
    address.hash = "";
    const secret = token();
    const opening = new WebSocket(address, secret ? ["edge-emotion", `token.${secret}`] : ["edge-emotion"]);
    socket = opening;
    heard = Date.now();
    let greeted = false;
    opening.onmessage = (message) => {
      heard = Date.now();
      greeted = true;
      take(JSON.parse(message.data));
    };
    opening.onclose = async (event) => {
      if (socket !== opening) return;
      socket = null;
      if (!greeted && (await refused(secret))) return;
      lost(event.reason);
    };
  }

  // Whether it is the token that is wrong; then it is asked for.
  async function refused(secret) {
    try {
      const answer = await fetch("access", { headers: secret ? { Authorization: `Bearer ${secret}` } : {} });
      if (answer.status !== 401) return false;
    } catch {
      return false;
    }
    status("token needed", "bad");
    $("ask").hidden = false;
    document.body.classList.add("locked");
    setFailed(secret ? "That token is not the one of this device, or not any more." : "");
    $("token").focus();
    return true;
  }

  function setFailed(text) {
    $("ask-failed").textContent = text;
  }

  function lost(reason) {
    view.connected = false;
    retry = Date.now() + 1000 * wait * (0.8 + 0.4 * Math.random());
    wait = Math.min(LONGEST_WAIT, 2 * wait);
    countdown(reason);
    draw();
  }

  let lastReason = "";
  function countdown(reason) {
    if (reason) lastReason = reason; // of the first failure: what follows is that nobody answers
    const seconds = Math.max(1, Math.ceil((retry - Date.now()) / 1000));
    // Without the seconds for who listens to it: they would be read out one by one.
    $("connection").title = `trying again in ${seconds} s`;
    status(`disconnected${lastReason ? ` (${lastReason})` : ""}, trying again`, "bad");
  }

  function take(message) {
    switch (message.type) {
      case "hello":
        greet(message);
        break;
      case "history":
        for (const event of message.events) apply(event);
        break;
      case "level":
        record.level = { ...message, came: Date.now() };
        if (view.live && !document.hidden) view.drawLevel(record.level);
        return;
      case "missed":
        view.missed = message.count;
        break;
      case "alive":
        return;
      default: {
        const finished = apply(message);
        if (finished && view.live) view.say(finished);
      }
    }
    if (view.live) draw();
  }

  function apply(value) {
    const event = edge.readEvent(value);
    return event && record.take(event);
  }

  function greet(hello) {
    record = new edge.Record(Array.isArray(hello.labels) ? hello.labels : []);
    wait = FIRST_WAIT;
    lastReason = "";
    view.connected = true;
    view.missed = 0;
    view.ahead = (Date.parse(hello.time) - Date.now()) / 1000;
    view.summarySeconds = hello.summary_s;
    status("connected", "good");
    $("connection").title = "";
    $("ask").hidden = true;
    document.body.classList.remove("locked");
    $("name").textContent = hello.name;
    $("about").textContent = `edge-emotion ${hello.version} · bundle ${hello.bundle}`;
    document.title = hello.name === "edge-emotion" ? hello.name : `${hello.name} · edge-emotion`;
    if (!$("back").hidden) return; // somebody looks at a recording
    view.show(record, true);
  }

  async function openFile(file) {
    if (file.size > MOST_BYTES) {
      status(`${file.name} has ${Math.round(file.size / 1e6)} MB; at most ${MOST_BYTES / 1e6} MB can be shown`, "bad");
      return;
    }
    const { record: recorded, events, damaged } = edge.readLines(await file.text());
    const lines = damaged === 1 ? "1 damaged line" : `${damaged} damaged lines`;
    $("welcome").hidden = true;
    document.body.classList.remove("alone");
    $("back").hidden = !served;
    view.show(recorded, false);
    status(`${file.name}: ${events} events${damaged ? `, ${lines} left out` : ""}`, damaged ? "bad" : "good");
    $("connection").title = "";
    draw();
  }

  function backToLive() {
    $("back").hidden = true;
    view.show(record, true);
    if (view.connected) status("connected", "good");
    else countdown();
    draw();
  }

  function watch() {
    if (served && socket === null && retry && Date.now() >= retry) connect();
    else if (socket && view.connected && Date.now() - heard > 1000 * SILENT) {
      const dead = socket;
      socket = null;
      dead.close();
      lost("nothing came");
    } else if (retry && $("back").hidden) countdown();
    view.tick();
  }

  for (const button of document.querySelectorAll(".open")) button.addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    if ($("file").files.length) openFile($("file").files[0]);
    $("file").value = "";
  });
  $("back").addEventListener("click", backToLive);
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = $("token").value.trim();
    if (!/^[A-Za-z0-9._~-]+$/.test(given)) {
      setFailed("A token is letters, digits and . _ ~ - alone.");
      return;
    }
    location.hash = `token=${given}`;
    $("token").value = "";
    connect();
  });
  for (const name of ["dragenter", "dragover"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      $("drop").hidden = false;
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").hidden = true;
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").hidden = true;
    if (event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    if (retry) retry = Date.now();
    draw();
  });
  window.addEventListener("online", () => {
    if (retry) retry = Date.now();
  });

  setInterval(watch, 1000);
  if (served) {
    view.show(record, true);
    draw();
    connect();
  } else {
    document.body.classList.add("alone");
    $("welcome").hidden = false;
    status("no device: opened as a file", "idle");
  }
})();
