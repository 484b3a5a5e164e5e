"""Latency of the transformers on an edge runtime, beside timm's and KerasHub's: `python benchmarks/edge_latency.py`.

Every contestant converts the same architecture, with random weights, to a TFLite file of one image:

    kcls           `kcls export --tflite`: float32, and with dynamic int8
    litert-torch   timm's network through litert-torch, as its documentation says
    KerasHub       KerasHub's network through Keras's own `export(format="litert")`

The last two need libraries that do not live together with kcls's; each is looked for in the Python interpreter that
`--litert-torch` and `--keras-hub` name, and left out without one. LiteRT then runs all files in this process, with
XNNPACK; they take turns, round by round, so that what else happens on the machine meets them all. A figure is the
median of the rounds' medians, in milliseconds; "parts" is how many pieces of the graph the runtime makes: 1 is a
network that XNNPACK runs as a whole.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"


@dataclass(frozen=True)
class Network:
    """What is measured, and its name elsewhere."""

    timm: str | None = None
    keras_hub: str | None = None  # name of its backbone, and that of its configuration below


NETWORKS = {
    "vit_tiny_16": Network("vit_tiny_patch16_224", "ViT"),
    "vit_small_16": Network("vit_small_patch16_224", "ViT"),
    "deit_small": Network("deit_small_patch16_224", "DeiT"),
    "swin_tiny": Network("swin_tiny_patch4_window7_224", "Swin"),
    "coatnet_0": Network("coatnet_0_224"),
    "cct_14_7x2": Network(),
}
QUANTIZED = {"kcls": ("none", "dynamic"), "litert-torch": ("none",), "KerasHub": ("none",)}


def convert_kcls(name: str, quantize: str) -> bytes:
    from kcls.data.preprocess import Preprocess
    from kcls.exporting.tflite import make_tflite
    from kcls.models import create_model
    from kcls.models.registry import get_variant

    variant = get_variant(name)
    classes = tuple(map(str, range(variant.num_classes)))
    model = create_model(name, num_classes=len(classes))
    return make_tflite(model, classes, Preprocess(variant.image_size), quantize)


def convert_litert_torch(name: str, quantize: str) -> bytes:
    import litert_torch
    import torch

    sys.path.insert(0, str(TESTS))
    from parity import import_timm

    model = import_timm().create_model(NETWORKS[name].timm).eval()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        litert_torch.convert(model, (torch.rand(1, 3, 224, 224),)).export(str(file))
        return file.read_bytes()


def convert_keras_hub(name: str, quantize: str) -> bytes:
    import keras
    import keras_hub

    width, heads = {"vit_tiny_16": (192, 3)}.get(name, (384, 6))
    transformer = dict(
        image_shape=(224, 224, 3), patch_size=16, num_layers=12, num_heads=heads, hidden_dim=width, mlp_dim=4 * width
    )
    kind = NETWORKS[name].keras_hub
    if kind == "ViT":
        backbone = keras_hub.models.ViTBackbone(**{**transformer, "patch_size": (16, 16)})
    elif kind == "DeiT":
        transformer["intermediate_dim"] = transformer.pop("mlp_dim")
        backbone = keras_hub.models.DeiTBackbone(**transformer)
    else:
        backbone = keras_hub.models.SwinTransformerBackbone(
            image_shape=(224, 224, 3), embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), window_size=7
        )
    image = keras.Input((224, 224, 3), batch_size=1)
    x = backbone(image)
    x = x[:, 0] if kind != "Swin" else keras.ops.mean(x, axis=tuple(range(1, len(x.shape) - 1)))
    model = keras.Model(image, keras.layers.Dense(1000, activation="softmax")(x))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        model.export(str(file), format="litert", verbose=False)
        return file.read_bytes()


CONVERTERS = {"kcls": convert_kcls, "litert-torch": convert_litert_torch, "KerasHub": convert_keras_hub}


def runner(contents: bytes, threads: int):
    """A function that runs the network once, and the number of parts of its graph."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=contents, num_threads=threads)
    interpreter.allocate_tensors()
    (image,) = interpreter.get_input_details()
    random = np.random.default_rng(0)
    interpreter.set_tensor(image["index"], random.integers(0, 255, image["shape"]).astype(image["dtype"]))
    # What the delegate took over is listed as well, so the graph that runs is the delegate's nodes and what is left.
    interpreter.invoke()
    operations = [op["op_name"] for op in interpreter._get_ops_details()]
    return interpreter.invoke, operations.count("DELEGATE")


def milliseconds(invoke, seconds: float) -> float:
    times, began = [], time.perf_counter()
    while not times or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        invoke()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def runners_of(name: str, files: dict[tuple[str, str], bytes], threads: list[int]):
    """A runner for each file and number of threads; a file that LiteRT cannot run is left out, and says why."""
    runners = {}
    for key, contents in files.items():
        try:
            found = {(key, t): runner(contents, t) for t in threads}
        except (RuntimeError, ValueError) as error:  # a Flex op, for example
            print(f"{key[0]}'s {name} does not run: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        else:
            runners |= found
    return runners


def files_of(name: str, pythons: dict[str, str], folder: Path) -> dict[tuple[str, str], bytes]:
    """Converted by every contestant that has the network; one that fails is left out, and says why."""
    files = {}
    for contestant, python in pythons.items():
        has = {"kcls": True, "litert-torch": NETWORKS[name].timm, "KerasHub": NETWORKS[name].keras_hub}[contestant]
        for quantize in QUANTIZED[contestant] if has else ():
            file = folder / f"{name}-{contestant}-{quantize}.tflite"
            command = [python, __file__, "--convert", contestant, name, quantize, str(file)]
            done = subprocess.run(
                command, capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            )
            if done.returncode:
                print(f"{contestant} has no {name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            else:
                files[contestant, quantize] = file.read_bytes()
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--litert-torch", metavar="PYTHON", help="an interpreter with litert-torch and timm")
    parser.add_argument("--keras-hub", metavar="PYTHON", help="an interpreter with keras-hub")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one file in one round")
    parser.add_argument("--json", type=Path, help="a file for all rounds")
    options = parser.parse_args()
    pythons = {"kcls": sys.executable, "litert-torch": options.litert_torch, "KerasHub": options.keras_hub}
    pythons = {contestant: python for contestant, python in pythons.items() if python}

    print(f"load {os.getloadavg()[0]:.1f} before the start; {platform.platform()}\n")
    columns = [f"{t} thread{'s' * (t > 1)}" for t in options.threads]
    print(f"| model | made by | weights | MiB | parts | {' | '.join(columns)} |")
    print("|---" * (5 + len(columns)) + "|")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            files = files_of(name, pythons, Path(folder))
            runs = runners_of(name, files, options.threads)
            times = {key: [] for key in runs}
            for _ in range(options.rounds):
                for key, (invoke, _) in runs.items():
                    times[key].append(milliseconds(invoke, options.seconds))
            for key in dict.fromkeys(key for key, _ in runs):
                contents = files[key]
                cells = [f"{statistics.median(times[key, t]):.1f}" for t in options.threads]
                parts = runs[key, options.threads[0]][1]
                weights = {"none": "float32", "dynamic": "int8"}[key[1]]
                print(
                    f"| {name} | {key[0]} | {weights} | {len(contents) / 2**20:.1f} | {parts} | {' | '.join(cells)} |"
                )
                found = {str(t): times[key, t] for t in options.threads}
                results.append({"model": name, "made_by": key[0], "weights": weights, "milliseconds": found})
            sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps({"platform": platform.platform(), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--convert"]:
        contestant, name, quantize, file = sys.argv[2:6]
        Path(file).write_bytes(CONVERTERS[contestant](name, quantize))
    else:
        main()
