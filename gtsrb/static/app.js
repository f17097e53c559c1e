// Written by hand, no build step. Everything shown comes from this server; text goes in by textContent only.
import { thumbnail } from "./thumbnail.js";

const $ = id => document.getElementById(id);
const BATCH = { files: 50, bytes: 16 * 2 ** 20 };        // one request: small enough for a bar that moves
const PATIENCE = 5;                                      // times a busy server is asked again
const SURE = 0.9;
const rows = [];                                         // { file, name, card, answer }
let todo = [], running = false;

const percent = p => `${(100 * p).toFixed(2)} %`;        // the server has cut it to these digits
const tied = name => name.replace(/(\d) (km|t)/, "$1\u00a0$2");
const sleep = s => new Promise(done => setTimeout(done, 1000 * s));

// ---- files come in: picker, drop (folders too), paste

async function filesOf(entry, path = "") {
  if (entry.isFile) {
    const file = await new Promise((ok, no) => entry.file(ok, no));
    return [{ file, name: path + file.name }];
  }
  const reader = entry.createReader(), found = [];
  for (;;) {                                             // a reader gives at most 100 entries at a time
    const some = await new Promise((ok, no) => reader.readEntries(ok, no));
    if (!some.length) break;
    for (const e of some) found.push(...await filesOf(e, `${path}${entry.name}/`));
  }
  return found.filter(f => /\.(ppm|pgm|png|jpe?g|bmp|webp)$/i.test(f.name));
}

async function dropped(transfer) {
  const plain = [...transfer.files].map(file => ({ file, name: file.name }));
  const entries = [...transfer.items].map(i => i.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some(e => e.isDirectory)) return plain;
  return (await Promise.all(entries.map(e => filesOf(e).catch(() => [])))).flat();
}

function add(found) {
  if (!found.length) return;
  const cards = document.createDocumentFragment();
  for (const { file, name } of found) {
    const card = $("card").content.firstElementChild.cloneNode(true), row = { file, name, card, answer: null };
    card.classList.add("waiting");
    card.querySelector(".name").textContent = "…";
    card.querySelector(".file").textContent = name;
    card.querySelector(".file").title = name;
    card.querySelector("canvas").setAttribute("aria-label", name);
    cards.append(card); rows.push(row); todo.push(row);
  }
  $("results").prepend(cards);
  $("bar").hidden = false;
  if (!running) run();
}

$("files").addEventListener("change", e => { add([...e.target.files].map(file => ({ file, name: file.name }))); e.target.value = ""; });
addEventListener("paste", e => add([...e.clipboardData.files].map(file => ({ file, name: file.name }))));
let depth = 0;                                           // dragenter and dragleave come for every child
addEventListener("dragenter", e => { e.preventDefault(); depth++; document.body.classList.add("over"); });
addEventListener("dragleave", () => { if (--depth <= 0) { depth = 0; document.body.classList.remove("over"); } });
addEventListener("dragover", e => e.preventDefault());
addEventListener("drop", async e => {
  e.preventDefault(); depth = 0; document.body.classList.remove("over");
  add(await dropped(e.dataTransfer));
});

// ---- files go out, a batch at a time, and answers come back in upload order

function takeBatch() {
  const batch = []; let bytes = 0;
  while (todo.length && batch.length < BATCH.files && (!batch.length || bytes + todo[0].file.size <= BATCH.bytes)) {
    bytes += todo[0].file.size; batch.push(todo.shift());
  }
  return batch;
}

async function ask(batch) {
  const form = new FormData();
  for (const r of batch) form.append("files", r.file, r.file.name || "pasted");
  for (let attempt = 1; ; attempt++) {
    const response = await fetch("predict?format=list&top_k=5", { method: "POST", body: form });
    if ((response.status === 429 || response.status === 503) && attempt < PATIENCE) {
      await sleep(Number(response.headers.get("Retry-After") || 1) * attempt); continue;
    }
    const answer = await response.json();
    if (!Array.isArray(answer)) throw new Error(answer.error?.message || `the server said ${response.status}`);
    return answer;
  }
}

async function run() {
  running = true;
  while (todo.length) {
    tell();
    const batch = takeBatch(), pictures = (async () => { for (const r of batch) await thumbnail(r.file, r.card.querySelector("canvas")); })();
    let answers;
    try { answers = await ask(batch); }
    catch (e) {
      const message = e instanceof TypeError ? "the server could not be reached" : e.message;
      answers = batch.map(() => ({ error: { code: "not_sent", message } }));
    }
    batch.forEach((r, i) => show(r, answers[i]));
    tell();
    await pictures;
    for (const r of batch) r.file = null;
  }
  running = false;
  tell();
}

// ---- what is shown

const KIND = {                                           // the server's codes in a visitor's words
  empty_file: "This file is empty.", unsupported_format: "This is not a picture I can read.",
  corrupt_image: "This picture is damaged.", truncated_image: "This picture is cut off; perhaps it was not copied completely.",
  file_too_large: "This file is too large.", too_many_pixels: "This picture has too many pixels.",
};

function signImage(id, alt = "") {
  const img = new Image(); img.src = `legend/${id}.png`; img.alt = alt; img.loading = "lazy"; return img;
}

function show(row, answer) {
  const { card } = row, part = s => card.querySelector(s);
  row.answer = answer;
  card.classList.remove("waiting");
  if (answer.error) {
    card.classList.add("failed");
    part(".name").textContent = KIND[answer.error.code] || `Not answered: ${answer.error.message}.`;
    part(".name").title = answer.error.message;
    return;
  }
  part(".name").textContent = tied(answer.name);
  part(".sign").src = `legend/${answer.class}.png`; part(".sign").hidden = false;
  part(".confidence").hidden = false;
  part(".percent").textContent = percent(answer.confidence);
  part(".percent").setAttribute("aria-label", `confidence ${percent(answer.confidence)}`);
  card.classList.toggle("unsure", answer.confidence < SURE);
  requestAnimationFrame(() => { part(".fill").style.width = `${100 * answer.confidence}%`; });
  const more = part(".more"); more.hidden = false;
  more.addEventListener("toggle", () => more.querySelector("ol").replaceChildren(...answer.top.map(c => {
    const li = document.createElement("li"), name = document.createElement("span"), p = document.createElement("span");
    name.textContent = tied(c.name); p.textContent = percent(c.confidence); li.append(signImage(c.class), name, p); return li;
  })), { once: true });
}

function tell() {
  const done = rows.filter(r => r.answer), failed = done.filter(r => r.answer.error).length;
  const s = n => `${n.toLocaleString("en")} picture${n === 1 ? "" : "s"}`;
  $("status").textContent = done.length < rows.length ? `${done.length.toLocaleString("en")} of ${s(rows.length)} …`
    : s(done.length) + (failed ? `, ${failed.toLocaleString("en")} could not be read` : "");
  $("save").disabled = done.length < rows.length;
}

$("clear").addEventListener("click", () => {
  rows.length = todo.length = 0; $("results").replaceChildren(); $("bar").hidden = true; $("files").focus();
});

$("save").addEventListener("click", () => {
  const cell = v => /[",\r\n]/.test(v = /^[=+\-@\t\r]/.test(v) ? `'${v}` : `${v}`) ? `"${v.replaceAll('"', '""')}"` : v;
  const lines = rows.map(({ name, answer: a }) => [name, a.class ?? "", a.name ?? "", a.confidence ?? "", a.error?.code ?? ""].map(cell).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([["path,class,name,confidence,error", ...lines].join("\r\n") + "\r\n"], { type: "text/csv" }));
  link.download = "signs.csv"; link.click(); URL.revokeObjectURL(link.href);
});

$("known").addEventListener("toggle", async () => {
  const classes = await (await fetch("classes")).json();
  $("signs").replaceChildren(...classes.map(c => {
    const li = document.createElement("li"), name = document.createElement("span");
    name.textContent = tied(c.name); li.append(signImage(c.class), name); return li;
  }));
}, { once: true });
