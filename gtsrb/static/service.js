// What the page asks the server. Every question may find the server busy, gone, or wanting a key.

import { allReadable } from "./files.js";

const PATIENCE = { busy: 5, no_connection: 4 };          // attempts
const BY_STATUS = { 401: "unauthorized", 404: "not_found", 408: "upload_too_slow", 413: "body_too_large", 429: "busy",
  500: "internal_error", 502: "no_connection", 503: "not_ready", 504: "answer_too_slow" };   // where something else than the API answers
const KEY = "gtsrb.key";

export class Refusal extends Error {
  constructor(code, status = 0, message = code) { super(message); this.code = code; this.status = status; }
}

// ---- the key

let key = "", asking = null, askForKey = async () => null;
try { key = sessionStorage.getItem(KEY) ?? ""; } catch { /* storage may be forbidden */ }

export function onKeyWanted(ask) { askForKey = ask; }    // ask(whether one was tried) -> the key, or null

async function renewKey(tried) {
  if (tried !== key) return;                             // another question has brought a new one
  asking ??= askForKey(tried !== "").finally(() => { asking = null; });
  const given = await asking;
  if (!given) throw new Refusal("unauthorized", 401);
  key = given;
  try { sessionStorage.setItem(KEY, key); } catch { /* for this page only */ }
}

const headers = () => key ? { "X-API-Key": String.fromCharCode(...new TextEncoder().encode(key)) } : {};   // a header holds bytes

// ---- asking

function pause(seconds, signal) {
  return new Promise((done, stopped) => {
    const timer = setTimeout(done, 1000 * seconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); stopped(signal.reason); }, { once: true });
  });
}

async function fetched(url, options) {
  try { return await fetch(url, options); }
  catch (e) { throw options.signal?.aborted ? e : new Refusal("no_connection"); }
}

async function understood(response) {
  const body = await response.json().catch(() => null);
  if (Array.isArray(body) || response.ok && body) return body;
  throw new Refusal(body?.error?.code ?? BY_STATUS[response.status] ?? "http_error", response.status, body?.error?.message);
}

function formOf(files) {
  const form = new FormData();
  for (const file of files) form.append("files", file, file.name || "pasted");
  return form;
}

async function ask(url, files, { signal, waiting = () => {} } = {}) {
  for (let attempt = 1; ; attempt++) {
    const tried = key;
    let wait;
    try {
      const response = await fetched(url, { method: "POST", body: formOf(files), headers: headers(), signal });
      if (response.status === 401) { await renewKey(tried); attempt = 0; continue; }
      wait = Math.min(60, (Number(response.headers.get("Retry-After")) || 1) * attempt);
      return await understood(response);
    } catch (e) {
      const busy = e.status === 429 || e.status === 503, kind = busy ? "busy" : e.code;
      if (!(attempt < PATIENCE[kind]) || kind === "no_connection" && !await allReadable(files)) throw e;
      wait ??= attempt / 2;
      waiting(kind, wait);
      await pause(wait, signal);
    }
  }
}

export async function predict(files, options) {          // -> an answer or an error for each, in order
  const answers = await ask("predict?format=list&top_k=5&known=1", files, options);
  if (!Array.isArray(answers) || answers.length !== files.length) throw new Refusal("http_error");
  return answers;
}

export const explain = file => ask("explain", [file]);   // -> { class, name, confidence, heat: rows of 0 to 1 }

export async function classes() {
  return understood(await fetched("classes", {}));
}
