"""The web page of an export: whole, without a network, and with kcls's answers in a real browser."""

import gzip
import hashlib
import http.server
import io
import json
import os
import queue
import re
import shutil
import subprocess
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY_RECIPE
from PIL import Image

import kcls
from kcls.artifact import open_artifact
from kcls.data.decode import decode_pillow
from kcls.data.preprocess import Preprocess

PAGE = ROOT / "export" / "web"
OURS = sorted(path for path in PAGE.iterdir() if path.suffix in (".html", ".js", ".css", ".svg"))
RUNTIME = PAGE / "litert"
COMPILED = "5255c8ad06eabdbd2522cdebf6b22fc10faf74625c23a49b9e072570cd1fa41c"  # the .wasm in npm's @litertjs/core 2.5.3
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A finished run that is sure of some answers, on images of 24 px."""
    folder = tmp_path_factory.mktemp("web")
    text = TINY_RECIPE.replace("train[:20%]", "train[:90%]").replace("epochs: 2", "epochs: 4")
    (folder / "tiny.yaml").write_text(text.replace("image:   {size: 8}", "image:   {size: 24}"))
    return kcls.train(folder / "tiny.yaml", out=folder / "run")


@pytest.fixture(scope="module")
def pages(learned):
    """Reports of a float and an int8 page, by their quantization."""
    reports = kcls.export(learned, ["web"], quantize=["none", "int8"], min_agreement=0.5, max_drop=0.2)
    return {report["quantize"]: report for report in reports}


def test_the_runtime_is_that_of_the_npm_package():
    sums = dict(reversed(line.split()) for line in (RUNTIME / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {path.name for path in RUNTIME.iterdir()} - {"SHA256SUMS", "LICENSE", "NOTICE"}
    for name, expected in sums.items():
        assert hashlib.sha256((RUNTIME / name).read_bytes()).hexdigest() == expected, name
    compiled = gzip.decompress((RUNTIME / "litert_wasm_compat_internal.wasm.gzip").read_bytes())
    assert hashlib.sha256(compiled).hexdigest() == COMPILED


@pytest.mark.parametrize("file", OURS, ids=lambda p: p.name)
def test_the_page_names_no_other_host_and_no_file_that_it_lacks(file):
    text = file.read_text()
    assert set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", text)) <= {"http://www.w3.org/2000/svg"}
    named = re.findall(r"(?:src|href)=\"([^\"]+)\"|from \"([^\"]+)\"|(?:load|URL)\(\"([^\"]+)\"", text)
    made = {"model.tflite", "labels.txt", "kcls.json"}  # by the export
    for name in filter(None, (name for names in named for name in names)):
        assert name in made or (PAGE / name).is_file(), name


def test_the_page_forbids_itself_every_other_host():
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', (PAGE / "index.html").read_text())[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["connect-src"] == rules["style-src"] == "'self'"
    assert rules["script-src"] == "'self' 'wasm-unsafe-eval'"
    assert not re.search(r"https?:|\*|unsafe-inline|'unsafe-eval'|data:", policy)


def test_a_page_is_an_artifact_with_the_models_answers(pages, learned):
    assert pages["none"]["max_difference"] < 1e-5 and pages["int8"]["agreement"] > 0.5
    assert [Path(r["path"]).name for r in pages.values()] == ["resnet20_float32_web", "resnet20_int8_web"]
    for report in pages.values():
        page = Path(report["path"])
        own = {str(path.relative_to(PAGE)) for path in PAGE.rglob("*")}
        assert {str(path.relative_to(page)) for path in page.rglob("*")} == own | {
            "model.tflite",
            "labels.txt",
            "kcls.json",
        }
        classifier = open_artifact(page)
        assert classifier.class_names == tuple("0123456789")
        assert (classifier.output["dtype"] == np.uint8) == (report["quantize"] == "int8")
        assert json.loads((page / "kcls.json").read_text())["preprocess"]["image_size"] == 24
    evaluation = kcls.evaluate(pages["none"]["path"])
    assert evaluation.summary["top1"] == pages["none"]["top1"]
    assert evaluation.folder == learned.path / "evaluation" / "test" / "resnet20_float32_web"


def test_an_export_says_how_to_look_at_its_page(learned, cli):
    done = cli("export", learned.path, "--web")
    page = learned.path / "export" / "resnet20_float32_web"
    assert done.code == 0, done.err
    assert f"python -m http.server -d {page} --bind 127.0.0.1 8000\n" in done.out and "camera on https" in done.out
    assert done.out.endswith(f"Next: kcls predict {page} IMAGE...\n")
    assert "http.server" not in cli("export", learned.path, "--tflite").out


# What follows runs in Chromium, which the server of the test tells what to do and which posts what it found.

BROWSER = """<!doctype html><meta charset="utf-8"><body><script type="module">
const tasks = await (await fetch("tasks.json")).json();
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
async function until(what, seconds = 60) {
  for (let i = 0; i < seconds * 20; i++, await wait(50)) if (what()) return;
  throw new Error(`not within ${seconds} s: ${what}`);
}
async function picture(name) {
  return new File([await (await fetch(name)).blob()], name, {type: "image/png"});
}

/** The square of each preprocessing for each picture, as text of bytes. */
async function squares({pictures, preprocess}) {
  const {squareOf} = await import("./square.js");
  const found = [];
  for (const name of pictures) {
    const bitmap = await createImageBitmap(await picture(name), {colorSpaceConversion: "none"});
    for (const each of preprocess) found.push([...squareOf(bitmap, bitmap.width, bitmap.height, each)]);
  }
  return found;
}

/** What the page itself shows for pictures that are chosen, pasted and dropped, and for the camera. */
async function page({pictures, ways}) {
  const frame = document.createElement("iframe");
  frame.allow = "camera";
  frame.src = "index.html";
  document.body.append(frame);
  await new Promise((resolve) => (frame.onload = resolve));
  const {document: doc, DataTransfer, Event, ClipboardEvent, DragEvent, performance} = frame.contentWindow;
  const violations = [];
  doc.addEventListener("securitypolicyviolation", (event) => violations.push(event.blockedURI));
  const status = doc.getElementById("status");
  await until(() => ["Ready.", "wrong"].some((text) => (status.textContent + status.className).includes(text)));
  const shown = () => [...doc.querySelectorAll("#answers li")].map((li) => [
    li.querySelector(".name").textContent, parseFloat(li.querySelector(".number").textContent) / 100]);
  const answers = [];
  for (const [i, name] of pictures.entries()) {
    const data = new DataTransfer();
    data.items.add(await picture(name));
    const input = doc.getElementById("file");
    const way = ways[i % ways.length];
    if (way === "choose") { input.files = data.files; input.dispatchEvent(new Event("change")); }
    if (way === "paste") doc.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}));
    if (way === "drop") doc.dispatchEvent(new DragEvent("drop", {dataTransfer: data}));
    await until(() => /%$/.test(status.textContent));
    answers.push(shown());
  }
  const camera = doc.getElementById("camera");
  camera.click();
  await until(() => camera.getAttribute("aria-pressed") === "true");
  doc.getElementById("answers").replaceChildren();
  await until(() => shown().length === 5);
  const live = shown();
  camera.click();
  return {answers, live, pressed: camera.getAttribute("aria-pressed"), violations, status: status.textContent,
    timing: doc.getElementById("timing").textContent,
    outside: performance.getEntriesByType("resource").map((e) => e.name)
      .filter((name) => !name.startsWith(location.origin) && !name.startsWith("blob:"))};
}

const work = {squares, page};
let report;
try {
  report = await work[tasks.work](tasks);
} catch (error) {
  report = {error: String(error.stack), status: document.querySelector("iframe")?.contentDocument
    .getElementById("status").textContent};
}
await fetch("report", {method: "POST", body: JSON.stringify(report)});
</script>"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """A plain static server for the page, with the test's own files beside it, that takes one report."""

    def __init__(self, *arguments, own, reports, **options):
        self.own, self.reports = own, reports
        super().__init__(*arguments, **options)

    def do_GET(self):
        contents = self.own.get(self.path.lstrip("/"))
        if contents is None:
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if self.path.endswith(".html") else "application/octet-stream")
        self.end_headers()
        self.wfile.write(contents)

    def do_POST(self):
        self.reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def browse(tmp_path):
    """Serves a folder on this machine, lets headless Chromium work in it, and returns what it found."""
    if not CHROMIUM and os.environ.get("CI") != "true":
        pytest.skip("there is no Chromium: apt-get install chromium")
    assert CHROMIUM, "CI tests the page in Chromium: apt-get install chromium"

    def run(folder: Path, pictures: dict[str, bytes], **tasks):
        reports: queue.Queue = queue.Queue()
        tasks["pictures"] = list(pictures)
        own = {**pictures, "test.html": BROWSER.encode(), "tasks.json": json.dumps(tasks).encode()}
        handler = partial(Handler, directory=folder, own=own, reports=reports)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            command = [CHROMIUM, "--headless=new", "--no-sandbox", f"--user-data-dir={tmp_path / 'profile'}"]
            command += ["--disable-gpu", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
            url = f"http://127.0.0.1:{server.server_port}/test.html"
            with open(tmp_path / "chromium.txt", "w") as log:
                browser = subprocess.Popen([*command, url], stdout=log, stderr=log)
            try:
                report = reports.get(timeout=120)
            except queue.Empty:
                pytest.fail(f"no report within 120 s\n{(tmp_path / 'chromium.txt').read_text()[-2000:]}")
            finally:
                browser.terminate()
                browser.wait()
                server.shutdown()
        assert "error" not in report, report
        return report

    return run


def images(*sizes: tuple[int, int]) -> dict[str, bytes]:
    """Lossless files of these heights and widths, noise and smooth slopes, by name."""
    random = np.random.default_rng(0)
    made = {}
    for height, width in sizes:
        slopes = np.add.outer(np.linspace(0, 200, height), np.linspace(0, 55, width))[..., None] * [1, 0.5, 0.8]
        noise = random.integers(0, 256, (height, width, 3))
        mixed = np.where(random.random((height, width, 1)) < 0.5, slopes, noise).astype(np.uint8)
        made[f"{height}x{width}.png"] = encoded(Image.fromarray(mixed), "png")
    return made


def turned() -> bytes:
    """A photo of a camera that was held upright: its EXIF orientation says which side is up."""
    slopes = np.add.outer(np.linspace(0, 255, 40), np.zeros(70))[..., None] * [1, 0.2, 0.6]
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(slopes.astype(np.uint8)), "jpeg", quality=95, exif=exif)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


PREPROCESS = [
    Preprocess(32, fit, 1.0 if fit == "pad" else fraction, interpolation)
    for interpolation in ("bilinear", "bicubic")
    for fit, fraction in (("crop", 1.0), ("crop", 0.875), ("pad", 1.0), ("stretch", 0.9))
]


@pytest.mark.heavy
def test_the_browsers_square_is_kclss_within_a_grey_level(browse):
    # Smaller and larger than the square, wide, high; one whose padded height is 2.5; one that is read in two strips.
    made = images((32, 32), (5, 9), (100, 40), (61, 333), (5, 64), (2900, 1700))
    found = browse(PAGE, made, work="squares", preprocess=[p.to_dict() for p in PREPROCESS])
    expected = [p.pillow(decode_pillow(file, name)) for name, file in made.items() for p in PREPROCESS]
    assert len(found) == len(expected)
    for mine, square in zip(found, expected, strict=True):
        off = np.abs(np.array(mine).reshape(square.shape) - square.astype(int))
        assert off.max() <= 1 and (off > 0).mean() < 0.01  # a sum that ends in a half may round the other way


@pytest.mark.heavy
@pytest.mark.parametrize("quantize", ["none", "int8"])
def test_the_page_gives_kclss_answers_in_a_browser(pages, browse, quantize):
    made = images((24, 24), (50, 200), (333, 61), (9, 12), (700, 900)) | {"turned.jpg": turned()}
    page = Path(pages[quantize]["path"])
    report = browse(page, made, work="page", ways=["choose", "paste", "drop"])
    classifier = open_artifact(page)
    for answers, (name, file) in zip(report["answers"], made.items(), strict=True):
        (expected,) = classifier.classify([decode_pillow(file, name)])
        assert len(answers) == 5
        shown = np.array([probability for _, probability in answers])
        assert (np.diff(shown) <= 0).all()
        for label, probability in answers:
            assert abs(probability - expected[classifier.class_names.index(label)]) < 0.01
        np.testing.assert_allclose(shown, -np.sort(-expected)[:5], atol=0.01)
    assert len(report["live"]) == 5 and report["pressed"] == "false" and report["status"] == "The camera is off."
    assert re.fullmatch(r"[\d.]+ ms to answer, [\d.]+ ms to resize", report["timing"])
    assert report["outside"] == report["violations"] == []
