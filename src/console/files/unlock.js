// An encrypted recording: opened in this tab with the listener's own key, which never leaves it and is never stored.
import { $, ru } from "/assets/console.js";
const player = $("[data-player][data-locked]");
if (player) {
  const form = $("[data-unlock]", player), said = $("[data-unlock-said]", player), field = $("[name=key]", form), file = $("[name=keyfile]", form);
  const parts = JSON.parse($("[data-parts]", player).dataset.parts), opened = [];
  let decrypter = null;

  async function open(n) {
    const answer = await fetch(parts[n].url);
    if (!answer.ok) throw new Error(answer.statusText);
    const plain = await decrypter.decrypt(answer.body); // a stream: a long part does not fill the memory
    const blob = await new Response(plain, { headers: { "Content-Type": parts[n].kind } }).blob();
    draw(n, blob);
    return URL.createObjectURL(blob);
  }
  player.source = n => (opened[n] ??= open(n).catch(error => { opened[n] = null; throw error; }));

  // The waveform of a WAV file, as the server draws that of a plain one: 700 pieces for the whole call.
  async function draw(n, blob) {
    const head = new DataView(await blob.slice(0, 4096).arrayBuffer()), name = at => String.fromCharCode(...[0, 1, 2, 3].map(i => head.getUint8(at + i)));
    if (head.byteLength < 44 || name(0) !== "RIFF") return;
    let at = 12;
    while (at + 8 < head.byteLength && name(at) !== "data") at += 8 + head.getUint32(at + 4, true);
    if (at + 8 >= head.byteLength) return;
    const end = parts.at(-1).to, share = (parts[n].to - parts[n].from) / end, pieces = Math.max(Math.ceil(700 * share), 1);
    const frames = Math.floor((blob.size - at - 8) / 4), width = (share * 700) / pieces, paths = ["", ""];
    const lift = v => Math.sign(v) * Math.sqrt(Math.abs(v) / 32768) * 50;
    for (let p = 0; p < pieces; p++) {
      const from = Math.floor((p * frames) / pieces), to = Math.max(Math.floor(((p + 1) * frames) / pieces), from + 1);
      const samples = new Int16Array(await blob.slice(at + 8 + from * 4, at + 8 + Math.min(to, frames) * 4).arrayBuffer());
      for (const channel of [0, 1]) {
        let low = 0, high = 0;
        for (let i = channel; i < samples.length; i += 2) { low = Math.min(low, samples[i]); high = Math.max(high, samples[i]); }
        const x = (parts[n].from / end) * 700 + (p + 0.15) * width, top = 50 - lift(high), bottom = Math.max(50 - lift(low), top + 1.8);
        paths[channel] += `M${x.toFixed(2)} ${top.toFixed(1)}h${(width * 0.7).toFixed(2)}V${bottom.toFixed(1)}h-${(width * 0.7).toFixed(2)}z`;
      }
    }
    [".pk-l", ".pk-r"].forEach((lane, c) => { const path = $(lane, player); path.setAttribute("d", path.getAttribute("d") + paths[c]); });
  }

  form.hidden = false;
  form.addEventListener("submit", async e => {
    e.preventDefault();
    const text = `${field.value}\n${file.files[0] ? await file.files[0].text() : ""}`;
    const found = text.match(/AGE-SECRET-KEY-(PQ-)?1[0-9A-Z]+/gi) ?? [];
    said.className = "muted";
    said.textContent = ru ? "Открываем…" : "Opening…";
    try {
      const { Decrypter } = await import("/assets/age.js");
      decrypter = new Decrypter();
      found.forEach(key => decrypter.addIdentity(key.toUpperCase()));
      if (!found.length) throw new Error("no key");
      await player.source(0);
    } catch {
      decrypter = null;
      said.className = "v bad";
      said.textContent = ru ? "Этот ключ запись не открывает." : "This key does not open the recording.";
      return;
    }
    form.reset();
    form.hidden = true;
    said.className = "v ok";
    said.textContent = ru ? "Открыто в этой вкладке. Ключ — только в её памяти." : "Open in this tab. The key is in its memory only.";
    $("[data-opened]", player).hidden = false;
    $("[data-toggle]", player).focus();
  });
}
