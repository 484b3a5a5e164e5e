/**
 * How an image of any size becomes the square that the model sees: kcls's image contract, with Pillow's resize.
 *
 * A canvas that is told to shrink an image does it in its own way, other pixels than the model was trained on. Here a
 * canvas only hands out pixels; they are resized by Pillow's algorithm: two passes of an antialiased kernel in floats.
 */

const GREY = 128; // around an image of fit "pad"
const STRIP = 1 << 22; // pixels that are read at once: a phone's canvas holds no whole photo

/** Kernels by name: how far they reach, and their value at a distance. */
const KERNELS = {
  bilinear: { reach: 1, at: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { reach: 2, at: cubic },
};

/** Keys' cubic with a = -1/2. */
function cubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

/** Rounds halves to the even number, as Python's `round`. */
function roundHalfEven(x) {
  const down = Math.floor(x);
  return x - down === 0.5 ? down + (down % 2) : Math.round(x);
}

/**
 * Which part of an image goes where, in pixels; the part may have fractions of one.
 *
 * @param {number} width of the image
 * @param {number} height of the image
 * @param {{image_size: number, fit: "crop"|"pad"|"stretch", crop_fraction: number}} preprocess
 * @returns {{left: number, top: number, width: number, height: number, columns: number, rows: number}} the part of the
 *     image, and the columns and rows that it takes in the middle of the square
 */
export function region(width, height, { image_size: size, fit, crop_fraction: kept }) {
  if (fit === "pad") {
    const [columns, rows] = [width, height].map((side) =>
      Math.max(roundHalfEven((side * size) / Math.max(width, height)), 1),
    );
    return { left: 0, top: 0, width, height, columns, rows };
  }
  const [wide, high] = fit === "crop" ? Array(2).fill(Math.min(width, height) * kept) : [width * kept, height * kept];
  return { left: (width - wide) / 2, top: (height - high) / 2, width: wide, height: high, columns: size, rows: size };
}

/**
 * Of which pixels, with which weights, each pixel of a resized line is made.
 *
 * @param {number} size pixels of the line
 * @param {number} start where the part that is resized begins
 * @param {number} length of that part
 * @param {number} count pixels that it becomes
 * @returns {{first: number, weights: Float64Array}[]} for each of them, the first pixel and the weights from there on
 */
function taps(size, start, length, count, { reach, at }) {
  const scale = length / count;
  const blur = Math.max(scale, 1); // antialiasing: a kernel as wide as what becomes one pixel
  return Array.from({ length: count }, (_, i) => {
    const centre = start + (i + 0.5) * scale;
    const first = Math.max(Math.floor(centre - reach * blur + 0.5), 0);
    const last = Math.min(Math.floor(centre + reach * blur + 0.5), size);
    const weights = Float64Array.from({ length: last - first }, (_, x) => at((x + first - centre + 0.5) / blur));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((w) => w / sum) };
  });
}

/** From the first pixel that the taps need to the one behind the last. */
function span(list) {
  const last = list[list.length - 1];
  return [list[0].first, last.first + last.weights.length];
}

/** A function that reads pixels of an image or a video's frame: RGBA bytes of a rectangle. */
function reader(source) {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  return (left, top, width, height) => {
    Object.assign(context.canvas, { width, height }); // this empties it, too
    context.drawImage(source, left, top, width, height, 0, 0, width, height);
    return context.getImageData(0, 0, width, height).data;
  };
}

/** First pass: the rows of an image, RGB, each resized to as many columns as there are taps. */
function narrow(read, across, [top, bottom]) {
  const [left, right] = span(across);
  const width = right - left;
  const result = new Float32Array((bottom - top) * across.length * 3);
  const most = Math.max(Math.floor(STRIP / width), 1);
  let to = 0;
  for (let y = top; y < bottom; y += most) {
    const count = Math.min(most, bottom - y);
    const pixels = read(left, y, width, count);
    for (let row = 0; row < count; row++) {
      for (const { first, weights } of across) {
        let from = (row * width + first - left) * 4;
        let [red, green, blue] = [0, 0, 0];
        for (let i = 0; i < weights.length; i++, from += 4) {
          const weight = weights[i];
          red += weight * pixels[from];
          green += weight * pixels[from + 1];
          blue += weight * pixels[from + 2];
        }
        result[to++] = red;
        result[to++] = green;
        result[to++] = blue;
      }
    }
  }
  return result;
}

/** Second pass, into the middle of the square; the clamped array rounds halves to even numbers, as NumPy does. */
function flatten(lines, firstLine, down, columns, size) {
  const square = new Uint8ClampedArray(size * size * 3).fill(GREY);
  const left = Math.floor((size - columns) / 2);
  const top = Math.floor((size - down.length) / 2);
  const stride = columns * 3;
  const sums = new Float64Array(stride);
  down.forEach(({ first, weights }, row) => {
    sums.fill(0);
    weights.forEach((weight, i) => {
      const from = (first - firstLine + i) * stride;
      for (let x = 0; x < stride; x++) sums[x] += weight * lines[from + x];
    });
    square.set(sums, ((top + row) * size + left) * 3);
  });
  return square;
}

/**
 * The square that the model sees.
 *
 * @param {ImageBitmap|HTMLVideoElement} source whose pixels are read
 * @param {number} width of the source
 * @param {number} height of the source
 * @param {object} preprocess of kcls.json
 * @returns {Uint8ClampedArray} RGB, size x size x 3
 */
export function squareOf(source, width, height, preprocess) {
  const part = region(width, height, preprocess);
  const kernel = KERNELS[preprocess.interpolation];
  const across = taps(width, part.left, part.width, part.columns, kernel);
  const down = taps(height, part.top, part.height, part.rows, kernel);
  const lines = narrow(reader(source), across, span(down));
  return flatten(lines, span(down)[0], down, part.columns, preprocess.image_size);
}
