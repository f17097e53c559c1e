// The live demo: pictures come in by drop, picker or paste, and are answered one by one, here in the browser.
import { Model, models, pixelsOf } from "./model.js";

const percent = p => `${(Math.floor(1e4 * p) / 100).toFixed(2)}%`;   // cut, not rounded: 100% would claim more than the model does
const here = name => new URL(name, import.meta.url).href, root = document.querySelector("#demo");

function element(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) k in made ? made[k] = v : made.setAttribute(k, v);
  made.append(...inside);
  return made;
}

const picker = element("input", { type: "file", multiple: true, accept: "image/*,.ppm,.pgm" });
const drop = element("label", { className: "demo-drop" }, element("strong", {}, "Drop pictures of signs here, or choose some"), picker);
const choice = element("select", { className: "form-select" }), choose = element("label", { className: "demo-choice", hidden: true }, "Model ", choice);
const samples = element("p", { className: "demo-samples" }, "No picture at hand? Take a drawn one: ");
const status = element("p", { className: "demo-status", role: "status" }), answers = element("ol", { className: "demo-answers" });

let listed = null;
const opened = new Map();                                // each model once
async function list() {
  listed ??= await models();
  if (!choice.options.length) choice.append(...listed.map(m => element("option", { value: m.name }, `${m.name}, ${m.size} px, ${(m.bytes / 1e6).toFixed(1)} MB`)));
  choose.hidden = listed.length < 2;
}
async function model() {
  await list();
  const name = choice.value;
  if (!opened.has(name)) {
    status.textContent = "Loading the network, once …";
    opened.set(name, Model.open(listed.find(m => m.name === name)).catch(e => { opened.delete(name); throw e; }));
  }
  return opened.get(name);
}

function thumbnail({ pixels, width, height }, name) {
  const canvas = element("canvas", { width, height, role: "img", ariaLabel: `the picture ${name}` }), image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) { for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[3 * i + c]; image.data[4 * i + 3] = 255; }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
const words = ([first, ...others]) => [
  element("img", { src: here(`signs/${first.id}.png`), alt: "", width: 48, height: 48 }),
  element("div", {}, element("strong", {}, `${first.name} ${percent(first.confidence)}`),
    element("div", { className: "demo-others" }, `then ${others.map(o => `${o.name} ${percent(o.confidence)}`).join(", ")}`))];

let queue = Promise.resolve();
function ask(files) { for (const f of files) queue = queue.then(() => answer(f)); }
async function answer(file) {
  const line = element("li", {}, element("span", { className: "demo-file" }, file.name || "pasted"));
  answers.prepend(line);
  try {
    const picture = await pixelsOf(file), network = await model(), start = performance.now(), best = await network.best(picture);
    line.prepend(thumbnail(picture, file.name), ...words(best));
    status.textContent = `${file.name || "pasted"}: ${best[0].name}, ${percent(best[0].confidence)}, in ${(performance.now() - start).toFixed(0)} ms`;
  } catch (e) {
    line.append(element("strong", { className: "demo-error" }, e.message));
    status.textContent = `${file.name || "pasted"}: ${e.message}`;
  }
}

picker.addEventListener("change", () => { ask([...picker.files]); picker.value = ""; });
picker.addEventListener("click", list, { once: true });
for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, e => { e.preventDefault(); drop.classList.add("over"); });
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
drop.addEventListener("drop", e => { e.preventDefault(); ask([...e.dataTransfer.files]); });
document.addEventListener("paste", e => ask([...e.clipboardData.files]));
for (const [i, name] of ["stop.png", "keep_right.ppm", "limit_50.png"].entries()) samples.append(i ? ", " : "", element("button", { type: "button", className: "btn btn-sm btn-outline-secondary",
  onclick: async () => ask([new File([await (await fetch(here(`samples/${name}`))).blob()], name)]) }, name));
root.replaceChildren(drop, samples, choose, status, answers);
list().catch(e => { status.textContent = e.message; });
