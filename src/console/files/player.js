// The player: parts of a recording as one timeline, sides by gain, keys, marks. Sound is asked for when it is played.
import { $, $$, clock, keys, ru } from "/assets/console.js";
const player = $("[data-player]");
if (player) {
  const parts = JSON.parse($("[data-parts]", player).dataset.parts); // [{url, from, to}], s on the timeline
  const end = parts.at(-1).to, audio = new Audio();
  audio.preload = "none";
  let part = -1, pending = false, goesOn = false, gains = null, context = null, wanted = 0, loop = null, sought = false;
  const now = () => (part < 0 || sought ? wanted : parts[part].from + audio.currentTime);

  // The graph is made at the first play: a browser allows sound only after a press.
  function graph() {
    if (context) return context.resume();
    context = new AudioContext();
    const source = context.createMediaElementSource(audio), split = context.createChannelSplitter(2), join = context.createChannelMerger(2);
    gains = [0, 1].map(channel => {
      const gain = context.createGain();
      split.connect(gain, channel);
      gain.connect(join, 0, channel);
      return gain;
    });
    source.connect(split);
    join.connect(context.destination);
    player.graph = { context, join };
    side($$("[name=side]", player).findIndex(r => r.checked));
  }
  function side(n) {
    const radio = $$("[name=side]", player)[n];
    if (!radio) return;
    radio.checked = true;
    $(".pk-l", player)?.classList.toggle("off", n === 2);
    $(".pk-r", player)?.classList.toggle("off", n === 1);
    if (gains) [gains[0].gain.value, gains[1].gain.value] = [n === 2 ? 0 : 1, n === 1 ? 0 : 1];
  }
  function load(at) {
    const n = Math.max(parts.findIndex(p => at < p.to), 0), rate = audio.playbackRate;
    if (n === part) return;
    part = n;
    if (!player.source) {
      audio.src = parts[n].url;
      audio.playbackRate = rate;
      return;
    }
    // An encrypted part is opened first (unlock.js); meanwhile nothing is loaded.
    pending = sought = true;
    audio.removeAttribute("src");
    audio.load();
    player.source(n).then(url => {
      if (part !== n) return;
      pending = false;
      audio.src = url;
      audio.playbackRate = rate;
      if (goesOn) play();
    }, fail);
  }
  function play() {
    goesOn = pending;
    if (!pending) audio.play().catch(fail);
  }
  function place(at) {
    const inside = Math.min(Math.max(at - parts[part].from, 0), parts[part].to - parts[part].from - 0.01);
    if (audio.readyState > 0) { audio.currentTime = inside; sought = false; } else sought = true;
  }
  audio.addEventListener("loadedmetadata", () => { if (sought || wanted) place(wanted); });
  function seek(at) {
    wanted = Math.min(Math.max(at, 0), end);
    if (part >= 0 && (!audio.paused || goesOn)) { load(wanted); place(wanted); play(); } else if (part >= 0) { load(wanted); place(wanted); }
    draw();
  }
  async function toggle() {
    if (!audio.paused) return audio.pause();
    await graph();
    if (now() >= end - 0.05) wanted = 0;
    else if (!sought && part >= 0) wanted = now();
    const same = part >= 0 && parts[part].from <= wanted && wanted < parts[part].to;
    load(wanted);
    if (!same || sought) place(wanted);
    play();
  }
  function fail(error) {
    if (error?.name === "AbortError") return; // another part or place was asked for meanwhile
    const out = $("[data-fail]", player);
    out.hidden = false;
    out.textContent = ru ? "Звук не пришёл. Запись не тронута; попробуйте ещё раз." : "The sound did not come. The recording is untouched; try again.";
  }
  function draw() {
    const at = now(), p = `${(at / end) * 100}%`, line = $("[data-head]", player), bar = $(".seek", player);
    line?.setAttribute("x1", p); line?.setAttribute("x2", p);
    $(".played", player)?.setAttribute("width", p);
    bar.value = at;
    bar.setAttribute("aria-valuetext", `${clock(at)} ${ru ? "из" : "of"} ${clock(end)}`);
    $("[data-clock]", player).textContent = clock(at);
  }
  function state() {
    const on = !audio.paused, b = $("[data-toggle]", player);
    $("use", b).setAttribute("href", on ? "#m-pause" : "#m-play");
    $("span", b).textContent = on ? (ru ? "Пауза" : "Pause") : ru ? "Слушать" : "Play";
  }
  function speed(step) {
    const s = $("[data-speed]", player);
    if (step) s.selectedIndex = Math.min(Math.max(s.selectedIndex + step, 0), s.length - 1);
    audio.playbackRate = audio.defaultPlaybackRate = parseFloat(s.value);
  }
  audio.addEventListener("play", state);
  audio.addEventListener("pause", state);
  audio.addEventListener("error", () => part >= 0 && !pending && audio.getAttribute("src") && fail());
  audio.addEventListener("seeked", draw);
  audio.addEventListener("timeupdate", () => {
    if (sought) return;
    wanted = now();
    if (loop?.length === 2 && wanted >= loop[1]) seek(loop[0]);
    draw();
  });
  audio.addEventListener("ended", () => {
    if (part + 1 < parts.length) { wanted = parts[part + 1].from; load(wanted); play(); } else draw();
  });
  $(".seek", player).addEventListener("input", e => seek(Number(e.target.value)));
  $("[data-toggle]", player).addEventListener("click", toggle);
  $$("[data-skip]", player).forEach(b => b.addEventListener("click", () => seek(now() + Number(b.dataset.skip))));
  $$("[data-at]", player).forEach(b => b.addEventListener("click", () => seek(Number(b.dataset.at))));
  $$("[name=side]", player).forEach((r, i) => r.addEventListener("change", () => side(i)));
  $("[data-speed]", player).addEventListener("change", () => speed(0));
  $(".wave", player).addEventListener("click", e => {
    const box = e.currentTarget.getBoundingClientRect();
    seek(((e.clientX - box.left) / box.width) * end);
  });
  // Repeat: the first press marks the begin, the second the end, the third clears both.
  $("[data-loop]", player).addEventListener("click", e => {
    loop = !loop ? [now()] : loop.length === 1 && now() > loop[0] ? [loop[0], now()] : null;
    e.currentTarget.setAttribute("aria-pressed", String(Boolean(loop)));
  });
  Object.assign(keys, {
    Space: e => (e.target.closest("button, a, summary") ? false : void toggle()),
    ArrowLeft: () => seek(now() - 10),
    ArrowRight: () => seek(now() + 10),
    Digit1: () => side(0),
    Digit2: () => side(1),
    Digit3: () => side(2),
    BracketLeft: () => speed(-1),
    BracketRight: () => speed(1),
  });
  player.audio = audio; // for the tests of the page
}
