// A card shows one row: the picture, the sign it is taken for, how sure that is, and on demand more.
import { readable } from "./files.js";
import { drawHeat, places } from "./heat.js";
import { explain } from "./service.js";
import { bitmapOf, forget, thumbnail } from "./thumbnail.js";
import { language, percent, problem, t, translate } from "./words.js";

export const SURE = 0.9;
const template = document.getElementById("card").content.firstElementChild;
const german = new Map();                                // class -> name

export function learn(classes) { for (const c of classes) german.set(c.class, c.german); }

export function signName({ class: id, name }) {          // broken neither between number and unit nor anywhere in a long word
  const words = (language === "de" && german.get(id)) || name;
  return words.replace(/(\d) (km|t)/, "$1\u00a0$2").replace(/(Höchst|Geschwindigkeits)(?=[a-z])/, "$1\u00ad");
}

export const unsure = answer => !answer.error && (answer.known === false || answer.confidence < SURE);

export function signImage(id) {
  const img = new Image();
  img.src = `legend/${id}.png`; img.alt = ""; img.loading = "lazy";
  return img;
}

function part(row, selector) { return row.card.querySelector(selector); }
function say(row, selector, text) { part(row, selector).textContent = text; }

// ---- the five best

function showTop(row) {
  part(row, ".top").replaceChildren(...row.answer.top.map(candidate => {
    const li = document.createElement("li"), name = document.createElement("span"), p = document.createElement("span");
    name.textContent = signName(candidate); p.textContent = percent(candidate.confidence);
    li.append(signImage(candidate.class), name, p);
    return li;
  }));
}

// ---- where it looked

function heatWords(heat) {
  const found = places(heat);
  if (!found.length) return t("nowhere");
  return found.length === 9 ? t("everywhere") : t("mostImportant", found.map(k => t("places")[k]));
}

function showHeat(row) {
  const picture = part(row, ".heat canvas"), failed = row.heat?.error;
  picture.hidden = part(row, ".legend").hidden = !row.heat || Boolean(failed);
  say(row, ".heat .words", !row.heat ? t("looking") : failed ? problem(failed) : heatWords(row.heat));
  say(row, ".heat .legend", t("heatLegend"));
  picture.setAttribute("aria-label", part(row, ".heat .words").textContent);
}

async function look(row) {
  showHeat(row);
  try {
    row.heat = row.heat?.error ? null : row.heat;
    row.heat ??= (await explain(row.file)).heat;
    drawHeat(part(row, ".heat canvas"), await bitmapOf(row.file), row.heat);
  } catch (e) {
    row.heat = { error: await readable(row.file) ? e.code : "unreadable_file" };
  }
  showHeat(row);
}

function toggle(row, button) {
  const panel = part(row, button.dataset.opens), open = panel.hidden;
  panel.hidden = !open;
  button.setAttribute("aria-expanded", open);
  if (button.dataset.opens === ".top") showTop(row);
  else if (open) look(row);
  else { const canvas = panel.querySelector("canvas"); canvas.width = canvas.height = 1; }
}

// ---- the card

export function makeCard(row) {
  row.card = template.cloneNode(true);
  say(row, ".file", row.name);
  part(row, ".file").title = row.name;
  for (const button of row.card.querySelectorAll(".more button")) button.addEventListener("click", () => toggle(row, button));
  thumbnail(row.file, part(row, ".photo"));
  show(row);
  return row.card;
}

export function dropCard(row) { forget(part(row, ".photo")); row.card.remove(); }

function showAnswer(row) {
  const { answer } = row, strange = answer.known === false;
  say(row, ".name", strange ? t("noSign") : signName(answer));
  say(row, ".guess", t("atBest", signName(answer), percent(answer.confidence)));
  say(row, ".percent .number", percent(answer.confidence));
  if (row.shown !== answer) part(row, ".sign").src = `legend/${answer.class}.png`;
  row.shown = answer;
  part(row, ".guess").hidden = !strange;
  part(row, ".sign").hidden = part(row, ".bar").hidden = part(row, ".percent").hidden = strange;
  part(row, ".more").hidden = false;
  requestAnimationFrame(() => { part(row, ".fill").style.width = `${100 * answer.confidence}%`; });
  if (!part(row, ".top").hidden) showTop(row);
  if (!part(row, ".heat").hidden) showHeat(row);
}

export function show(row) {                              // again after every change: an answer, another language
  const { card, answer } = row;
  translate(card);
  part(row, ".photo").setAttribute("aria-label", t("yourPicture", row.name));
  for (const button of card.querySelectorAll(".more button")) button.setAttribute("aria-label", t("of", button.textContent, row.name));
  card.className = `card ${!answer ? "waiting" : answer.error ? "failed" : unsure(answer) ? "unsure" : "sure"}`;
  card.classList.toggle("strange", answer?.known === false);
  if (!answer) say(row, ".name", t("pending"));
  else if (answer.error) say(row, ".name", problem(answer.error.code));
  else showAnswer(row);
}
