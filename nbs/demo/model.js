// A shipped model in the reader's browser: a picture in, calibrated probabilities out, the same as `Predictor.probabilities` in Python.
import { bitmapOf } from "./thumbnail.js";
import { square, toInput } from "./resize.js";

const here = name => new URL(name, import.meta.url).href, MOST_PIXELS = 16e6;

export class Refusal extends Error {}

async function fetched(name) {
  const response = await fetch(here(name)).catch(() => null);
  if (!response?.ok) throw new Refusal(`${name} is not to be had. Is the connection lost?`);
  return response;
}

export const models = async () => (await fetched("models.json")).json();   // [{ name, card, model, bytes }, …], the default first

let runtime = null;
function onnx() {                                        // 14 MB of WebAssembly, when first asked for
  runtime ??= import("./ort.wasm.bundle.min.mjs").then(ort => {
    Object.assign(ort.env.wasm, { numThreads: 1, wasmPaths: { wasm: here("ort-wasm-simd-threaded.wasm") } });
    return ort;
  }, () => { runtime = null; throw new Refusal("The program that runs the network is not to be had: the connection is lost, or this copy of the site was built without it."); });
  return runtime;
}

export async function pixelsOf(file) {                   // -> { pixels: (h, w, 3) bytes, width, height }; transparent parts lie on black
  let bitmap;
  try { bitmap = await bitmapOf(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" }); }
  catch { throw new Refusal("This is no picture that the browser can read."); }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Refusal(`${width} × ${height} pixels are too many.`);
  const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = pen.getImageData(0, 0, width, height), pixels = new Uint8Array(width * height * 3);
  for (let i = 0, j = 0; i < data.length; i += 4) { pixels[j++] = data[i]; pixels[j++] = data[i + 1]; pixels[j++] = data[i + 2]; }
  return { pixels, width, height };
}

export function softmax(logits, temperature) {
  const most = Math.max(...logits), odds = Array.from(logits, z => Math.exp((z - most) / temperature)), sum = odds.reduce((a, b) => a + b);
  return odds.map(o => o / sum);
}

export class Model {
  constructor(card, session, ort) { this.card = card; this.session = session; this.ort = ort; }

  static async open({ card, model }) {                   // one of `models`
    const [ort, known, network] = await Promise.all([onnx(), fetched(card).then(r => r.json()), fetched(model).then(r => r.arrayBuffer())]);
    return new Model(known, await ort.InferenceSession.create(network, { executionProviders: ["wasm"] }), ort);
  }

  async probabilities({ pixels, width, height }) {       // of the classes on the card
    const { size } = this.card.preprocess, input = toInput(square(pixels, width, height, size), this.card.preprocess);
    const { logits } = await this.session.run({ image: new this.ort.Tensor("float32", input, [1, size, size, 3]) });
    return softmax(logits.data, this.card.temperature);
  }

  async best({ pixels, width, height }, k = 3) {         // [{ id, name, confidence }, …], most likely first
    const p = await this.probabilities({ pixels, width, height });
    return [...p.keys()].sort((a, b) => p[b] - p[a]).slice(0, k).map(id => ({ id, name: this.card.classes[id], confidence: p[id] }));
  }
}
