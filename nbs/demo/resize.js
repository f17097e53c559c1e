// `square` and `to_input` of gtsrb.preprocess, pixel for pixel: OpenCV's resize of 8-bit pictures by areas and by two neighbours.
const f32 = Math.fround, COEF = 2048;

function round(x) {                                      // as the processor does it: halves to even
  const down = Math.floor(x), rest = x - down;
  return rest > 0.5 || rest === 0.5 && down % 2 ? down + 1 : down;
}
const byte = x => Math.min(255, Math.max(0, round(x)));

// Which source pixels make up each target pixel, with their weights: [[[index, weight], …], …]
function areas(from, to) {
  const scale = 1 / (to / from);                         // as OpenCV has it: not always from / to, to the last bit
  return Array.from({ length: to }, (_, d) => {
    const begin = d * scale, end = begin + scale, width = Math.min(scale, from - begin), cells = [];
    const last = Math.min(Math.floor(end), from - 1), first = Math.min(Math.ceil(begin), last);
    if (first - begin > 1e-3) cells.push([first - 1, f32((first - begin) / width)]);
    for (let s = first; s < last; s++) cells.push([s, f32(1 / width)]);
    if (end - last > 1e-3) cells.push([last, f32(Math.min(end - last, 1, width) / width)]);
    return cells;
  });
}

function byAreas(source, w, h, size) {                   // both sides shrink, not by whole numbers
  const out = new Uint8Array(size * size * 3), columns = areas(w, size), sum = new Float32Array(3 * size), line = new Float32Array(3 * size);
  areas(h, size).forEach((rows, y) => {
    sum.fill(0);
    for (const [sy, beta] of rows) {
      line.fill(0);
      columns.forEach((cells, x) => {
        for (const [sx, alpha] of cells) for (let c = 0; c < 3; c++) line[3 * x + c] = f32(line[3 * x + c] + f32(source[3 * (sy * w + sx) + c] * alpha));
      });
      for (let i = 0; i < sum.length; i++) sum[i] = f32(sum[i] + f32(beta * line[i]));
    }
    sum.forEach((s, i) => { out[3 * y * size + i] = byte(s); });
  });
  return out;
}

function byBlocks(source, w, size, kx, ky) {             // both sides shrink by whole numbers
  const out = new Uint8Array(size * size * 3), share = f32(1 / (kx * ky));
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) for (let c = 0; c < 3; c++) {
    let sum = 0;
    for (let v = 0; v < ky; v++) for (let u = 0; u < kx; u++) sum += source[3 * ((y * ky + v) * w + x * kx + u) + c];
    out[3 * (y * size + x) + c] = kx === 2 && ky === 2 ? (sum + 2) >> 2 : byte(f32(sum * share));
  }
  return out;
}

// [[index, next index, weight of the first, weight of the next], …], in 2048ths. Beyond the edge, columns take one pixel whole and rows the
// same one twice, which rounds differently.
function neighbours(from, to, asArea, whole) {
  const inverse = to / from, scale = 1 / inverse;        // not always from / to, to the last bit
  return Array.from({ length: to }, (_, d) => {
    let at = asArea ? Math.floor(d * scale) : Math.floor(f32((d + 0.5) * scale - 0.5));
    let part = asArea ? f32(d + 1 - (at + 1) * inverse) : f32(f32((d + 0.5) * scale - 0.5) - at);
    if (asArea) part = part <= 0 ? 0 : f32(part - Math.floor(part));
    if (whole && (at < 0 || at >= from - 1)) part = 0;
    return [Math.max(at, 0), Math.min(at + 1, from - 1), round(f32(f32(1 - part) * COEF)), round(f32(part * COEF))];
  });
}

function byNeighbours(source, w, h, size, asArea) {
  const out = new Uint8Array(size * size * 3), columns = neighbours(w, size, asArea, true);
  neighbours(h, size, asArea, false).forEach(([y0, y1, b0, b1], y) => columns.forEach(([x0, x1, a0, a1], x) => {
    for (let c = 0; c < 3; c++) {
      const row = sy => source[3 * (sy * w + x0) + c] * a0 + source[3 * (sy * w + x1) + c] * a1;
      out[3 * (y * size + x) + c] = (((b0 * (row(y0) >> 4)) >> 16) + ((b1 * (row(y1) >> 4)) >> 16) + 2) >> 2;
    }
  }));
  return out;
}

export function square(source, w, h, size) {             // (h, w, 3) bytes -> (size, size, 3) bytes
  if (w === size && h === size) return source;
  const asArea = w * h > size * size, kx = w / size, ky = h / size;
  if ((asArea || kx === 2 && ky === 2) && kx >= 1 && ky >= 1)
    return Number.isInteger(kx) && Number.isInteger(ky) ? byBlocks(source, w, size, kx, ky) : byAreas(source, w, h, size);
  return byNeighbours(source, w, h, size, asArea);
}

export function toInput(pixels, { contrast, floor = 8 }) {   // bytes -> what the network sees
  if (contrast === "scale") return Float32Array.from(pixels, p => p / 255);
  if (contrast !== "standardise") throw new Error(`the demo cannot prepare pictures by ${contrast}`);
  let mean = 0, square = 0;
  for (const p of pixels) mean += p / pixels.length;
  for (const p of pixels) square += (p - mean) ** 2 / pixels.length;
  const deviation = Math.max(Math.sqrt(square), floor);
  return Float32Array.from(pixels, p => (p - mean) / deviation);
}
