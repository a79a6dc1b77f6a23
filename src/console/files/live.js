// Calls under way, by server-sent events. The browser reconnects by itself, also over a restart of the recorder.
import { $, clock, ru } from "/assets/console.js";
const box = $("[data-live]");
if (box) {
  const events = new EventSource("/live/events"), state = $("[data-state]");
  // New rows wait while the pointer or the focus is on the table, but not after a press of a button of the table.
  let at = "", waiting = null, isPressed = false;
  const isInUse = () => box.matches(":hover, :focus-within");
  function lengths() {
    for (const cell of box.querySelectorAll("[data-since]")) cell.textContent = clock(Date.now() / 1000 - cell.dataset.since);
  }
  function show() {
    if (waiting === null) return;
    const call = document.activeElement?.dataset?.control?.replace(/[^/]+$/, "");
    box.innerHTML = waiting;
    waiting = null;
    isPressed = false;
    lengths();
    if (call) [...box.querySelectorAll("[data-control]")].find(b => b.dataset.control.startsWith(call))?.focus();
  }
  function news() {
    at = new Date().toTimeString().slice(0, 8);
    state.className = "v ok";
    state.textContent = `${ru ? "актуально" : "up to date"}, ${at}`;
    if (waiting !== null) state.textContent += ru ? "; новые строки ждут" : "; new rows wait";
  }
  events.addEventListener("calls", e => {
    waiting = e.data;
    if (isPressed || !isInUse()) show();
    news();
  });
  for (const leave of ["mouseleave", "focusout"]) box.addEventListener(leave, () => setTimeout(() => isInUse() || show()));
  // Per cent of each side; -1: packets without a level, null: nothing arrives.
  events.addEventListener("levels", e => {
    news();
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
  setInterval(lengths, 1000);
  lengths();
  box.addEventListener("click", async e => {
    const button = e.target.closest("[data-control]");
    if (!button) return;
    button.disabled = true;
    const answer = await fetch(button.dataset.control, { method: "POST", headers: { "X-CSRF-Token": box.dataset.csrf } });
    button.disabled = false;
    if (answer.ok) show();
    isPressed = answer.ok;
    if (!answer.ok) button.textContent = ru ? "Не принято" : "Not accepted";
  });
}
