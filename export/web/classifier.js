/** The model of this folder, run by LiteRT.js on the processor. */

import { Tensor, loadAndCompile, loadLiteRt } from "./litert/litert.js";
import { squareOf } from "./square.js";

const RUNTIME = new URL("litert/litert_wasm_compat_internal.js", import.meta.url).href; // runs in every browser
const STEPS = 256; // a quantized softmax counts in steps of 1/256

/** A file of this folder. */
async function load(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name} is missing (${answer.status})`);
  return answer;
}

/** Starts LiteRT.js with its WebAssembly, which is stored compressed so that any server sends a third of it. */
async function startRuntime() {
  const { body } = await load("litert/litert_wasm_compat_internal.wasm.gzip");
  const wasmBinary = await new Response(body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  self.Module = { wasmBinary }; // where LiteRT.js looks for options of its module
  await loadLiteRt(RUNTIME);
}

/** Opens the model, its labels and its preprocessing. */
export async function openClassifier() {
  const [labels, config, bytes] = await Promise.all([
    load("labels.txt").then((answer) => answer.text()),
    load("kcls.json").then((answer) => answer.json()),
    load("model.tflite").then((answer) => answer.arrayBuffer()),
    startRuntime(),
  ]);
  const model = await loadAndCompile(new Uint8Array(bytes), { accelerator: "wasm" });
  const names = labels.replace(/\n$/, "").split("\n");
  const classifier = new Classifier(model, names, config.preprocess, bytes.byteLength);
  await classifier.warmUp();
  return classifier;
}

class Classifier {
  /**
   * @param {object} model compiled: uint8 square in, a probability a label out
   * @param {string[]} labels in the order of the probabilities
   * @param {object} preprocess how an image becomes the square
   * @param {number} bytes of the model file
   */
  constructor(model, labels, preprocess, bytes) {
    Object.assign(this, { model, labels, preprocess, bytes });
  }

  /**
   * @param {ImageBitmap|HTMLVideoElement} source
   * @param {number} width of the source
   * @param {number} height of the source
   * @returns {Promise<object>} `square` (RGB bytes), `probabilities`, and milliseconds: `resizing` and `answering`
   */
  async classify(source, width, height) {
    const began = performance.now();
    const square = squareOf(source, width, height, this.preprocess);
    const resized = performance.now();
    const probabilities = await this.#answer(square);
    return { square, probabilities, resizing: resized - began, answering: performance.now() - resized };
  }

  /** The most probable labels first: `{label, probability}`. */
  best(probabilities, count) {
    const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
    return order.slice(0, count).map((i) => ({ label: this.labels[i], probability: probabilities[i] }));
  }

  /** Answers once for nothing: the first answer takes longer than all others. */
  async warmUp() {
    await this.#answer(new Uint8ClampedArray(this.preprocess.image_size ** 2 * 3));
  }

  async #answer(square) {
    const size = this.preprocess.image_size;
    const image = new Tensor(new Uint8Array(square.buffer), [1, size, size, 3]);
    try {
      const [scores] = await this.model.run([image]);
      const values = scores.toTypedArray();
      scores.delete();
      return values instanceof Uint8Array ? Float32Array.from(values, (value) => value / STEPS) : values;
    } finally {
      image.delete();
    }
  }
}
