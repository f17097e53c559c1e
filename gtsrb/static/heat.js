// Where the model looked: a coarse grid of importance (rows of 0 to 1), drawn smoothly over the picture in grey, and said in words.
const SIDE = 320, DIM = 120, ORANGE = [255, 170, 40], NEAR = 0.8, EVEN = 0.8;

// Catmull-Rom through the centres of the cells, held at the edge.
function stretched(values, length) {
  const n = values.length, at = i => values[Math.min(n - 1, Math.max(0, i))], out = new Float32Array(length);
  for (let x = 0; x < length; x++) {
    const place = (x + 0.5) / length * n - 0.5, i = Math.floor(place), f = place - i;
    const [a, b, c, d] = [at(i - 1), at(i), at(i + 1), at(i + 2)];
    out[x] = b + 0.5 * f * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)));
  }
  return out;
}

export function smooth(heat, width, height) {            // -> importance of each pixel, row by row
  const wide = heat.map(row => stretched(row, width)), out = new Float32Array(width * height);
  for (let x = 0; x < width; x++) {
    const column = stretched(wide.map(row => row[x]), height);
    for (let y = 0; y < height; y++) out[y * width + x] = Math.min(1, Math.max(0, column[y]));
  }
  return out;
}

function greys(data) {                                   // of RGBA, stretched to the full range: 0 to 1
  const grey = Float32Array.from({ length: data.length / 4 }, (_, p) => 0.3 * data[4 * p] + 0.59 * data[4 * p + 1] + 0.11 * data[4 * p + 2]);
  const least = grey.reduce((a, b) => Math.min(a, b)), range = grey.reduce((a, b) => Math.max(a, b)) - least || 1;
  return grey.map(g => (g - least) / range);
}

// Unimportant parts are dim and grey, important ones bright and orange: told apart by brightness alone, too.
export function drawHeat(canvas, bitmap, heat) {
  const scale = SIDE / Math.max(bitmap.width, bitmap.height), pen = canvas.getContext("2d", { willReadFrequently: true });
  const width = canvas.width = Math.max(1, Math.round(bitmap.width * scale)), height = canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, width, height);
  const image = pen.getImageData(0, 0, width, height), { data } = image, grey = greys(data);
  smooth(heat, width, height).forEach((h, p) => {
    const warm = h ** 0.75;                              // so that the lesser parts are seen too
    for (let c = 0; c < 3; c++) data[4 * p + c] = (1 - warm) * DIM * grey[p] + warm * ORANGE[c] * (0.5 + 0.5 * grey[p]);
    data[4 * p + 3] = 255;
  });
  pen.putImageData(image, 0, 0);
}

// The part of cell i of n that lies in third k.
const share = (i, n, k) => Math.max(0, Math.min((i + 1) / n, (k + 1) / 3) - Math.max(i / n, k / 3)) * n;

export function places(heat) {                           // -> the one or two most important ninths, 0 to 8 row by row; all nine; none
  const rows = heat.length, columns = heat[0].length, ninths = Array(9).fill(0);
  heat.forEach((row, y) => row.forEach((h, x) => {
    for (let k = 0; k < 9; k++) ninths[k] += h * share(y, rows, Math.floor(k / 3)) * share(x, columns, k % 3);
  }));
  const order = [...ninths.keys()].sort((a, b) => ninths[b] - ninths[a]), most = ninths[order[0]];
  if (most === 0) return [];
  if (ninths[order[8]] > EVEN * most) return order;
  return order.slice(0, 2).filter(k => ninths[k] >= NEAR * most);
}
