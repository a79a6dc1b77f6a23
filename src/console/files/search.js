// Search as one types: the server renders the results, the script exchanges them. Earlier rows stay, paler, meanwhile.
import { $, $$ } from "/assets/console.js";
const form = $("form.search"), results = $("#results");
let timer = 0, running = null;
function address() {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value) query.set(name, value);
  const text = query.toString();
  return text ? `/calls?${text}` : "/calls";
}
async function search() {
  const to = address();
  running?.abort();
  const mine = (running = new AbortController());
  results.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(to, { headers: { "X-Fragment": "results" }, signal: mine.signal });
    if (answer.redirected || answer.status === 401) return void (location.href = to);
    if (!answer.ok) throw new Error(answer.statusText);
    results.innerHTML = await answer.text();
    history.replaceState(null, "", to);
  } catch (error) {
    if (error.name === "AbortError") return;
    location.href = to;
  }
  if (running === mine) results.removeAttribute("aria-busy");
}
const soon = wait => { clearTimeout(timer); timer = setTimeout(search, wait); };
if (form && results) {
  form.addEventListener("input", e => {
    // Chosen days go before the range, so another range empties them.
    if (e.target.id === "day" && e.target.value !== "dates") form.elements.from.value = form.elements.to.value = "";
    soon(e.target.matches("input") ? 200 : 0);
  });
  form.addEventListener("submit", e => { e.preventDefault(); soon(0); });
  // One sound at a time; it is asked for only when somebody presses the button.
  const audio = new Audio();
  let at = null;
  const show = playing => at && $("use", at)?.setAttribute("href", playing ? "#m-pause" : "#m-play");
  audio.addEventListener("play", () => show(true));
  audio.addEventListener("pause", () => show(false));
  results.addEventListener("click", e => {
    const button = e.target.closest("[data-play]");
    if (!button) return;
    if (at === button && audio.src) return void (audio.paused ? audio.play() : audio.pause());
    show(false);
    at = button;
    audio.src = button.dataset.play;
    audio.play().catch(() => show(false));
  });
  $$("[data-play]").forEach(b => (b.hidden = false));
}
