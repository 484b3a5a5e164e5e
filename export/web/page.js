/** The page: a picture or the camera in, the most probable labels out. */

import { openClassifier } from "./classifier.js";

const SHOWN = 5; // labels
const at = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
let classifier;
let stream = null; // of the camera, while it runs

start().catch((error) => say(`The model cannot be loaded: ${error.message}`, "wrong"));

async function start() {
  say("Loading the model …");
  classifier = await openClassifier();
  const { labels, preprocess, bytes } = classifier;
  const size = preprocess.image_size;
  Object.assign(at.square, { width: size, height: size });
  at.about.textContent =
    `${labels.length.toLocaleString("en")} classes, ${size} × ${size} pixels, ` +
    `${(bytes / 2 ** 20).toFixed(1)} MiB. No picture leaves this device.`;
  listen();
  say("Ready.");
}

function listen() {
  at.file.disabled = false;
  at.file.addEventListener("change", () => at.file.files.length && show(at.file.files[0]));
  document.addEventListener("paste", (event) => take(event, event.clipboardData));
  document.addEventListener("drop", (event) => take(event, event.dataTransfer));
  for (const [kind, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      at.stage.classList.toggle("over", over);
    });
  }
  // Browsers offer a camera to a page from https or localhost only.
  at.camera.disabled = !navigator.mediaDevices;
  at.camera.title = navigator.mediaDevices ? "" : "Browsers allow the camera on https and on localhost only";
  at.camera.addEventListener("click", () => (stream ? stopCamera() : startCamera()));
  document.addEventListener("visibilitychange", () => document.hidden && stopCamera());
}

/** Takes the picture out of what was pasted or dropped. */
function take(event, { files }) {
  event.preventDefault();
  const picture = [...files].find((file) => file.type.startsWith("image/"));
  if (picture) show(picture);
  else say("That holds no picture.", "wrong");
}

/** Shows and classifies a picture's file. */
async function show(file) {
  stopCamera();
  say("Looking …");
  let bitmap;
  try {
    // Upright, and with the numbers of the file: the model was trained without colour profiles.
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    return say(`This browser cannot read ${file.name} as a picture.`, "wrong");
  }
  URL.revokeObjectURL(at.picture.src);
  at.picture.src = URL.createObjectURL(file);
  reveal(at.picture);
  const answer = await classifier.classify(bitmap, bitmap.width, bitmap.height);
  bitmap.close();
  at.file.value = ""; // so that the same file can be chosen again
  present(answer);
  const [{ label, probability }] = classifier.best(answer.probabilities, 1);
  say(`${label}, ${percent(probability)}`, "spoken"); // the bars show it
}

async function startCamera() {
  at.camera.disabled = true; // until it runs or does not: nobody starts it twice
  const wanted = { facingMode: { ideal: "environment" }, width: { ideal: 1280 }, height: { ideal: 720 } };
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    at.video.srcObject = stream;
    await at.video.play();
  } catch (error) {
    stopCamera();
    return say(`The camera does not start: ${error.message}`, "wrong");
  } finally {
    at.camera.disabled = false;
  }
  reveal(at.video);
  cameraRuns(true);
  say("The camera is classified live.");
  watch(stream).catch((error) => {
    stopCamera();
    say(error.message, "wrong");
  });
}

/** Classifies one frame after the other, as long as this stream is the camera's. */
async function watch(mine) {
  while (stream === mine) {
    await nextFrame();
    if (stream !== mine) return;
    const answer = await classifier.classify(at.video, at.video.videoWidth, at.video.videoHeight);
    if (stream === mine) present(answer);
  }
}

function nextFrame() {
  return new Promise((resolve) =>
    at.video.requestVideoFrameCallback ? at.video.requestVideoFrameCallback(resolve) : requestAnimationFrame(resolve),
  );
}

function stopCamera() {
  if (!stream) return;
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  cameraRuns(false);
  reveal(at.invitation);
  say("The camera is off.");
}

function cameraRuns(running) {
  at.camera.setAttribute("aria-pressed", running);
  at.camera.textContent = running ? "Stop camera" : "Start camera";
}

/** Shows one thing on the stage: the invitation, the picture or the camera. */
function reveal(element) {
  for (const each of [at.invitation, at.picture, at.video]) each.hidden = each !== element;
  at.seen.hidden = element === at.invitation;
}

function present({ square, probabilities, resizing, answering }) {
  paint(square);
  const best = classifier.best(probabilities, SHOWN);
  while (at.answers.children.length < best.length) at.answers.append(row());
  best.forEach(({ label, probability }, i) => {
    const [name, number, bar] = at.answers.children[i].children;
    name.textContent = label;
    number.textContent = percent(probability);
    bar.style.setProperty("--share", probability);
  });
  at.timing.textContent = `${answering.toFixed(1)} ms to answer, ${resizing.toFixed(1)} ms to resize`;
}

/** An answer: its label, its probability, its bar. */
function row() {
  const item = document.createElement("li");
  for (const kind of ["name", "number", "bar"]) {
    const span = document.createElement("span");
    span.className = kind;
    item.append(span);
  }
  item.lastChild.setAttribute("aria-hidden", "true");
  return item;
}

function paint(square) {
  const { width, height } = at.square;
  const image = new ImageData(width, height);
  for (let from = 0, to = 0; from < square.length; to += 4) {
    image.data.set([square[from++], square[from++], square[from++], 255], to);
  }
  at.square.getContext("2d").putImageData(image, 0, 0);
}

function percent(probability) {
  return `${(probability * 100).toFixed(1)} %`;
}

/** Tells what happens; `kind` is "wrong" for an error, "spoken" for what only a screen reader needs to be told. */
function say(text, kind = "") {
  at.status.textContent = text;
  at.status.className = kind;
}
