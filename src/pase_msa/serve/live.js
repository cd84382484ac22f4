// The Live tab: the microphone's sound goes to /live as 16-bit samples at 16 kHz, and what comes back is shown.
(() => {
  const RATE = 16000;
  const MOST = 4 * RATE;  // bytes that may wait to be sent, two seconds
  const SHOWN = 100;  // utterances

  // runs beside the page: averages the samples down to 16 kHz and hands over a tenth of a second at a time
  const WORKLET = `registerProcessor("pase-live", class extends AudioWorkletProcessor {
    constructor() { super(); this.out = new Int16Array(${RATE / 10}); this.count = 0; this.sum = 0; this.read = 0; this.place = 0; }
    process([channels]) {
      const step = sampleRate / ${RATE};
      for (let i = 0; channels[0] && i < channels[0].length; i++) {
        let value = 0;
        for (const channel of channels) value += channel[i] / channels.length;
        this.sum += value; this.read += 1; this.place += 1;
        if (this.place < step) continue;
        this.place -= step;
        this.out[this.count++] = Math.max(-1, Math.min(1, this.sum / this.read)) * 32767;
        this.sum = 0; this.read = 0;
        if (this.count === this.out.length) { this.port.postMessage(this.out.slice().buffer); this.count = 0; }
      }
      return true;
    }
  });`;

  let session = null;
  let range = null;
  const part = (name) => document.getElementById(`pase-live-${name}`);
  const state = (text) => { part("state").textContent = text; };
  const signed = (value) => (value >= 0 ? "+" : "\u2212") + Math.abs(value).toFixed(2);
  const clock = (time) => {
    const tenths = Math.round(10 * time);  // first, since 59.97 s are a minute
    return `${Math.floor(tenths / 600)}:${((tenths % 600) / 10).toFixed(1).padStart(4, "0")}`;
  };
  const sideOf = (message) => {
    if (message.score === undefined) return "";
    return message.score >= (range ? (range[0] + range[1]) / 2 : 0) ? "positive" : "negative";
  };
  const valueOf = (message) => (message.score === undefined ? message.label : signed(message.score));

  const buttons = (listening) => {
    part("start").disabled = listening;
    part("stop").disabled = !listening;
  };

  const showNow = (message) => {
    const box = part("now");
    box.hidden = false;
    box.classList.toggle("partial", message.type === "partial");
    const score = box.querySelector(".pase-score");
    score.textContent = valueOf(message);
    score.className = `pase-score ${sideOf(message)}`;
    const parts = Object.entries(message.contributions).map(([name, value]) => `${name} ${signed(value)}`).join(", ");
    box.querySelector(".pase-confidence").textContent = `confidence ${Math.round(100 * message.confidence)}%; ${parts}`;
    box.querySelector(".pase-live-words").textContent = message.text || "(no words)";
  };

  const keep = (message) => {
    const item = document.createElement("li");
    const chip = document.createElement("span");
    chip.className = `pase-chip ${sideOf(message)}`;
    chip.textContent = `${clock(message.start)} ${valueOf(message)}`;
    item.append(chip, ` ${message.text || "(no words)"}`);
    const said = part("said");
    said.prepend(item);
    while (said.children.length > SHOWN) said.lastChild.remove();
  };

  const take = (message, mine) => {
    if (message.type === "ready") {
      range = message.range;
      mine.ready = true;
      state("Listening.");
    } else if (message.type === "partial") showNow(message);
    else if (message.type === "final") { showNow(message); keep(message); }
    else if (message.type === "end") mine.over = "Stopped.";
    else if (message.type === "error") mine.over = message.detail;
    else state(message.detail);
  };

  const release = (mine) => {
    mine.tracks.forEach((track) => track.stop());
    if (mine.audio && mine.audio.state !== "closed") mine.audio.close();
  };

  const open = async (mine) => {
    state("Asking for the microphone.");
    const wanted = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const media = await navigator.mediaDevices.getUserMedia({ audio: wanted });
    mine.tracks = media.getTracks();
    if (session !== mine) { release(mine); return; }  // stopped while the browser asked
    mine.audio = new AudioContext();
    const code = URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" }));
    await mine.audio.audioWorklet.addModule(code);
    URL.revokeObjectURL(code);
    const node = new AudioWorkletNode(mine.audio, "pase-live", { numberOfOutputs: 0 });
    mine.audio.createMediaStreamSource(media).connect(node);
    const address = new URL("live", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = address.hash = "";
    const socket = new WebSocket(address);
    mine.socket = socket;
    node.port.onmessage = ({ data }) => {
      if (!mine.ready || socket.readyState !== WebSocket.OPEN) return;
      if (socket.bufferedAmount > MOST) state("The connection is slow, so some sound is lost.");
      else socket.send(data);
    };
    socket.onmessage = ({ data }) => take(JSON.parse(data), mine);
    socket.onclose = ({ reason }) => {
      release(mine);
      if (session !== mine) return;
      session = null;
      buttons(false);
      part("now").classList.remove("partial");
      state(mine.over || reason || "The connection was lost; press Listen to go on.");
    };
  };

  const start = async () => {
    if (session) return;
    if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode) {
      state("This browser gives no microphone here; open the page as localhost or by HTTPS.");
      return;
    }
    const mine = { tracks: [], ready: false, over: "" };
    session = mine;
    buttons(true);
    try {
      await open(mine);
    } catch (error) {
      release(mine);
      if (session !== mine) return;
      session = null;
      buttons(false);
      const denied = error.name === "NotAllowedError";
      state(denied ? "The microphone was not allowed; allow it for this page." : `There is no microphone: ${error.message}`);
    }
  };

  const stop = () => {
    if (!session) return;
    release(session);
    part("stop").disabled = true;
    if (session.socket?.readyState === WebSocket.OPEN) {
      state("Finishing the last words.");
      session.socket.send(JSON.stringify({ type: "end" }));
    } else if (session.socket) session.socket.close();
    else {
      session = null;
      buttons(false);
      state("Stopped.");
    }
  };

  document.addEventListener("click", ({ target }) => {
    if (target.id === "pase-live-start") start();
    else if (target.id === "pase-live-stop") stop();
  });
})();
