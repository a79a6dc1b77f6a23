// Calls under way, by server-sent events. The browser reconnects by itself, also over a restart of the recorder.
import { $, clock, ru } from "/assets/console.js";
const box = $("[data-live]");
if (box) {
  const events = new EventSource("/live/events"), state = $("[data-state]");
  let at = "";
  events.addEventListener("calls", e => {
    at = new Date().toTimeString().slice(0, 8);
    if (!box.matches(":hover, :focus-within")) box.innerHTML = e.data;
    state.className = "v ok";
    state.textContent = `${ru ? "актуально" : "up to date"}, ${at}`;
  });
  // Per cent of each side; -1: packets without a level, null: nothing arrives.
  events.addEventListener("levels", e => {
    for (const [id, sides] of Object.entries(JSON.parse(e.data))) {
      const cell = box.querySelector(`[data-levels="${CSS.escape(id)}"]`);
      sides.forEach((level, n) => {
        const bar = cell?.querySelectorAll("svg")[n], fill = bar?.querySelectorAll("rect")[1];
        if (!fill) return;
        fill.setAttribute("width", `${level === null ? 0 : level < 0 ? 50 : Math.max(level, 2)}%`);
        fill.classList.toggle("unknown", level < 0);
        bar.dataset.heard = level === null ? "no" : "yes";
      });
    }
  });
  events.addEventListener("error", () => {
    state.className = "v warn";
    state.textContent = ru ? `Нет новостей с ${at}. Пробуем снова.` : `No news since ${at}. Trying again.`;
    // A browser gives up after an answer that is no stream, e.g. while a proxy finds nobody behind it.
    if (events.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
  });
  setInterval(() => {
    for (const cell of box.querySelectorAll("[data-since]")) cell.textContent = clock(Date.now() / 1000 - cell.dataset.since);
  }, 1000);
  box.addEventListener("click", async e => {
    const button = e.target.closest("[data-control]");
    if (!button) return;
    button.disabled = true;
    const answer = await fetch(button.dataset.control, { method: "POST", headers: { "X-CSRF-Token": box.dataset.csrf } });
    button.disabled = false;
    if (!answer.ok) button.textContent = ru ? "Не принято" : "Not accepted";
  });
}
