// A small picture of a file on a canvas. Browsers read PNG, JPEG, BMP and WebP; the benchmark's PPM is read here.
const SIDE = 128;

export function parsePpm(bytes) {                        // P5 or P6, comments allowed, 8 or 16 bits -> ImageData, or null
  const kind = String.fromCharCode(bytes[0], bytes[1]);
  if (kind !== "P5" && kind !== "P6") return null;
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
  const [w, h, top] = numbers, channels = kind === "P6" ? 3 : 1, wide = top > 255 ? 2 : 1;
  if (!(w > 0 && h > 0 && top > 0 && w * h <= 2 ** 24) || bytes.length < ++i + w * h * channels * wide) return null;
  const image = new ImageData(w, h), scale = 255 / top;
  const at = k => (wide === 2 ? bytes[i + 2 * k] * 256 + bytes[i + 2 * k + 1] : bytes[i + k]) * scale;
  for (let p = 0; p < w * h; p++) {
    for (let c = 0; c < 3; c++) image.data[4 * p + c] = at(channels === 3 ? 3 * p + c : p);
    image.data[4 * p + 3] = 255;
  }
  return image;
}

export async function thumbnail(file, canvas) {          // nothing is drawn for what is no picture: the answer says why
  try {
    const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
    const ppm = head[0] === 80 && (head[1] === 53 || head[1] === 54);
    const source = ppm ? parsePpm(new Uint8Array(await file.arrayBuffer())) : file;
    if (!source) return;
    const bitmap = await createImageBitmap(source), scale = Math.min(1, SIDE / Math.min(bitmap.width, bitmap.height));
    canvas.width = Math.max(1, Math.round(bitmap.width * scale)); canvas.height = Math.max(1, Math.round(bitmap.height * scale));
    const pen = canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
  } catch { /* left grey */ }
}
