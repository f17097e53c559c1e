// Written by hand, no build step. Everything shown comes from this server; text goes in by textContent only.
import { dropCard, learn, makeCard, show, signImage, signName, unsure } from "./cards.js";
import { dropped, named, ofFolder } from "./files.js";
import { Queue } from "./queue.js";
import { csv, json, save } from "./results.js";
import { classes, onKeyWanted } from "./service.js";
import { language, number, problem, speak, t, translate } from "./words.js";

const $ = id => document.getElementById(id);
const rows = [];                                         // { file, name, group, card, answer, heat } in the order they came
const CHATTER = 10;                                      // seconds between two spoken reports
let signs = [], group = 0;

const queue = new Queue({
  answered: show,
  changed: tell,
  waiting: (kind, seconds) => { $("status").textContent = `${progressWords()} · ${kind === "busy" ? t("later", Math.ceil(seconds)) : t("lost")}`; },
});

// ---- files come in

function add(found) {
  if (!found.length) return;
  group++;
  const fresh = found.map(({ file, name }) => ({ file, name, group })), cards = document.createDocumentFragment();
  for (const row of fresh) cards.append(makeCard(row));
  rows.push(...fresh);
  $("results").prepend(cards);
  $("work").hidden = false;
  if (!document.body.classList.contains("full")) $("known").open = false;
  document.body.classList.add("full");
  notice("");
  queue.add(fresh);
}

function addFolder(found) { if (found.length) add(found); else notice(t("noPictures")); }

function onChoice(input, read, take) {
  $(input).addEventListener("change", e => { take(read(e.target.files)); e.target.value = ""; });   // the same file may be chosen again
}
onChoice("files", named, add);
onChoice("camera", named, add);
onChoice("folder", ofFolder, addFolder);

addEventListener("paste", e => add(named(e.clipboardData.files)));

let depth = 0;                                           // dragenter and dragleave come for every child
function over(change) { depth = Math.max(0, depth + change); document.body.classList.toggle("over", depth > 0); }
addEventListener("dragenter", e => { e.preventDefault(); over(1); });
addEventListener("dragleave", () => over(-1));
addEventListener("dragover", e => e.preventDefault());
addEventListener("drop", async e => {
  e.preventDefault();
  over(-depth);
  if (e.dataTransfer.types.includes("Files")) addFolder(await dropped(e.dataTransfer));
});

// ---- how it stands

function progressWords() {
  const left = queue.secondsLeft, words = t("doneOf", queue.done, queue.total);
  return left >= 5 ? `${words} · ${t("timeLeft", left)}` : words;
}

function summary(failed, doubtful, strange) {
  const merelyUnsure = doubtful - strange;
  return [t("pictures", rows.length), ...merelyUnsure ? [t("unsureCount", merelyUnsure)] : [], ...strange ? [t("strangeCount", strange)] : [], ...failed ? [t("errorCount", failed)] : [],
    ...queue.rows.length ? [t("leftCount", queue.rows.length)] : []].join(" · ");
}

let spokenAt = -Infinity;
function speakUp(text, urgent) {                         // for screen readers: seldom while it works, always at the end
  if (!urgent && performance.now() - spokenAt < 1000 * CHATTER) return;
  spokenAt = performance.now();
  $("spoken").textContent = text;
}

function notice(text, action = "") {
  $("notice").hidden = !text;
  $("notice").firstElementChild.textContent = text;
  $("again").hidden = !action;
  $("dismiss").hidden = Boolean(action);                 // what is still to be done stays in view
  $("again").textContent = action;
}

function tellTrouble() {
  const stopped = queue.trouble?.name === "AbortError";
  if (queue.trouble) notice(stopped ? t("stopped") : problem(queue.trouble.code), t(stopped ? "goOn" : "tryAgain"));
}

function tell() {
  const running = Boolean(queue.running), failed = rows.filter(r => r.answer?.error).length;
  const doubtful = rows.filter(r => r.answer && unsure(r.answer)).length, strange = rows.filter(r => r.answer?.known === false).length;
  const words = running ? progressWords() : summary(failed, doubtful, strange);
  $("status").textContent = words;
  speakUp(words, !running);
  const stopHadFocus = document.activeElement === $("stop");
  $("progress").hidden = $("stop").hidden = !running;
  $("progress").max = queue.total || 1;
  $("progress").value = queue.done;
  $("csv").hidden = $("json").hidden = running;
  $("bar").classList.toggle("running", running);
  $("view").hidden = rows.length < 2;
  [rows.length, doubtful, failed].forEach((n, i) => { $("only").querySelectorAll("b")[i].textContent = number(n); });
  if (running) return;
  arrange();
  tellTrouble();
  if (stopHadFocus) (queue.trouble ? $("again") : $("csv")).focus();
}

$("stop").addEventListener("click", () => queue.stop());
$("again").addEventListener("click", () => { notice(""); queue.go(); $("stop").focus(); });
$("dismiss").addEventListener("click", () => notice(""));
addEventListener("online", () => { if (queue.trouble?.code === "no_connection") { notice(""); queue.go(); } });

// ---- filter and order

const sureness = ({ answer }) => !answer ? 2 : answer.error ? -1 : answer.known === false ? 0 : answer.confidence;
const sign = ({ answer }) => answer?.class ?? 99;
const ORDERS = {
  newest: (a, b) => b.group - a.group,
  leastSure: (a, b) => sureness(a) - sureness(b),
  bySign: (a, b) => sign(a) - sign(b) || sureness(a) - sureness(b),
  byName: (a, b) => a.name.localeCompare(b.name, language, { numeric: true }),
};

function arrange() {
  const list = $("results"), cards = rows.toSorted(ORDERS[$("order").value]).map(row => row.card), focused = document.activeElement;
  if (cards.every((card, i) => card === list.children[i])) return;
  list.append(...cards);
  if (list.contains(focused)) focused.focus({ preventScroll: true });   // a moved element loses it
}

$("order").addEventListener("change", arrange);
$("only").addEventListener("change", e => { $("results").dataset.only = e.target.value; });

// ---- results go out

$("csv").addEventListener("click", () => save("signs.csv", csv(rows), "text/csv"));
$("json").addEventListener("click", () => save("signs.json", json(rows), "application/json"));
$("clear").addEventListener("click", () => {
  queue.clear();
  for (const row of rows) dropCard(row);
  rows.length = 0;
  $("work").hidden = true;
  $("only").querySelector("input").click();
  document.body.classList.remove("full");
  notice("");
  $("files").focus();
});

// ---- the key, the signs, the language

onKeyWanted(wrong => new Promise(done => {
  const dialog = $("key");
  $("key-wrong").hidden = !wrong;
  $("key-text").value = dialog.returnValue = "";
  dialog.addEventListener("close", () => done(dialog.returnValue === "send" && $("key-text").value.trim() || null), { once: true });
  dialog.showModal();
}));

function listSigns() {
  $("signs").replaceChildren(...signs.map(c => {
    const li = document.createElement("li"), name = document.createElement("span");
    name.textContent = signName(c); li.append(signImage(c.class), name);
    return li;
  }));
}

function showWords() {
  document.documentElement.lang = language;
  document.title = t("title");
  translate(document);
  for (const button of document.querySelectorAll(".languages button")) button.setAttribute("aria-pressed", button.lang === language);
  for (const row of rows) show(row);
  listSigns();
  notice("");
  if (rows.length) tell();
}

for (const button of document.querySelectorAll(".languages button")) button.addEventListener("click", () => { speak(button.lang); showWords(); });
showWords();
$("known").open = innerWidth >= 960;
classes().then(found => { signs = found; learn(found); showWords(); }).catch(() => {});   // the answers bring English names
