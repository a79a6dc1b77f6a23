// Behaviour that every page shares: menus, copying, keys. The pages work without it.
export const $ = (s, e = document) => e.querySelector(s), $$ = (s, e = document) => [...e.querySelectorAll(s)];
export const ru = document.documentElement.lang === "ru";
export const clock = s => {
  s = Math.max(Math.floor(s), 0);
  const h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60, two = n => String(n).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s % 60)}` : `${m}:${two(s % 60)}`;
};
// Functions by event.code; other modules add theirs.
export const keys = {
  Slash: e => (e.shiftKey ? $("dialog")?.showModal() : $("#q")?.focus()),
  KeyJ: () => row(1),
  KeyK: () => row(-1),
};
function row(step) {
  const rows = $$(".calls a.go"), at = rows.indexOf(document.activeElement);
  rows[Math.max(at + step, 0)]?.focus();
}

// The search field has the focus where there is a mouse; on a telephone it would cover the page with a keyboard.
if (matchMedia("(hover: hover)").matches) $(".ask #q")?.focus();

document.addEventListener("click", e => {
  $$("details.menu[open]").forEach(d => d.contains(e.target) || (d.open = false));
  const copy = e.target.closest("[data-copy]");
  if (copy) {
    const said = copy.textContent;
    navigator.clipboard?.writeText(copy.previousElementSibling.textContent);
    copy.setAttribute("aria-live", "polite");
    copy.textContent = ru ? "Скопировано" : "Copied";
    setTimeout(() => (copy.textContent = said), 2000);
  }
});

// Never while somebody writes, never with Ctrl, Alt or Meta, and by place, so that a Russian layout works.
document.addEventListener("keydown", e => {
  if (e.key === "Escape") {
    const open = $("details.menu[open]");
    if (open) { open.open = false; $("summary", open).focus(); }
    return;
  }
  if (e.ctrlKey || e.altKey || e.metaKey || e.target.closest("input:not([type=range], [type=radio]), textarea, select, dialog")) return;
  const act = keys[e.code];
  if (!act || act(e) === false) return;
  e.preventDefault();
});
$("[data-keys]")?.addEventListener("click", () => $("dialog").showModal());
