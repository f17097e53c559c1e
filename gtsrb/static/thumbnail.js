// Small pictures of files on canvases. Browsers read PNG, JPEG, BMP and WebP; the benchmark's PPM is read here.
const SIDE = 160, AT_A_TIME = 3, MOST_PIXELS = 2 ** 24;

function ppmHeader(bytes) {                              // P5 or P6, comments allowed -> [width, height, maximum, where the pixels begin], or null
  const numbers = [], space = b => b === 32 || (b >= 9 && b <= 13);
  let i = 2;
  while (numbers.length < 3 && i < bytes.length) {
    if (space(bytes[i])) i++;
    else if (bytes[i] === 35) while (i < bytes.length && bytes[i] !== 10) i++;
    else {
      let n = 0, digits = 0;
      for (; bytes[i] >= 48 && bytes[i] <= 57; i++, digits++) n = 10 * n + bytes[i] - 48;
      if (!digits) return null;
      numbers.push(n);
    }
  }
  return [...numbers, i + 1];
}

export function parsePpm(bytes) {                        // 8 or 16 bits -> ImageData, or null
  const channels = { P5: 1, P6: 3 }[String.fromCharCode(bytes[0], bytes[1])], header = channels && ppmHeader(bytes);
  if (!header) return null;
  const [w, h, top, start] = header, wide = top > 255 ? 2 : 1;
  if (!(w > 0 && h > 0 && top > 0 && w * h <= MOST_PIXELS) || bytes.length < start + w * h * channels * wide) return null;
  const image = new ImageData(w, h), scale = 255 / top;
  const at = k => (wide === 2 ? bytes[start + 2 * k] * 256 + bytes[start + 2 * k + 1] : bytes[start + k]) * scale;
  for (let p = 0; p < w * h; p++) {
    for (let c = 0; c < 3; c++) image.data[4 * p + c] = at(channels === 3 ? 3 * p + c : p);
    image.data[4 * p + 3] = 255;
  }
  return image;
}

export async function bitmapOf(file, options) {          // throws for what is no picture
  const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  const ppm = head[0] === 80 && (head[1] === 53 || head[1] === 54);
  return createImageBitmap(ppm ? parsePpm(new Uint8Array(await file.arrayBuffer())) : file, options);
}

async function paint(file, canvas) {
  const bitmap = await bitmapOf(file), scale = Math.min(1, SIDE / Math.min(bitmap.width, bitmap.height));
  if (inView.has(canvas)) {
    canvas.width = Math.max(1, Math.round(bitmap.width * scale)); canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const pen = canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  }
  bitmap.close();
}

// Only what is near the screen is drawn, a few at a time: a thousand photographs at once would not fit into a phone's memory.

const files = new WeakMap(), inView = new Set(), todo = new Set();
let busy = 0;

async function work() {
  const [canvas] = todo;
  if (!canvas || busy === AT_A_TIME) return;
  todo.delete(canvas);
  busy++;
  try { await paint(files.get(canvas), canvas); } catch { /* left grey: the answer says why */ }
  busy--;
  work();
}

const watcher = new IntersectionObserver(entries => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) { inView.add(target); todo.add(target); work(); }
    else { inView.delete(target); todo.delete(target); target.width = target.height = 1; }
  }
}, { rootMargin: "600px" });

export function thumbnail(file, canvas) { files.set(canvas, file); watcher.observe(canvas); }
export function forget(canvas) { watcher.unobserve(canvas); inView.delete(canvas); todo.delete(canvas); }
