"""Images per second of one training step, beside PyTorch and Keras: `python benchmarks/train_step.py`.

A step is forward, loss, backward, and SGD with momentum and weight decay, on a batch that stays in memory; it ends
when its loss has come back. Four contestants:

    kcls        the step of `kcls train`
    PyTorch     timm's network (torch_cifar.py for CIFAR's), channels_last, fused SGD; bfloat16 by torch.autocast
    compiled    the same through torch.compile; not by default, for it compiles for minutes before its first step
    Keras       the network of Keras Applications in the step of kcls; neither is compiled by XLA

Every contestant is a process of its own, with the same number of threads, and starts with two steps that do not count.
Then they take turns, round by round, so that what else happens on the machine meets them all. A figure is the median
of the rounds; the spread is the largest deviation of a round from its median. It needs torch and timm, and an idle
machine: PyTorch's threads spin while they wait for each other, so a busy neighbour costs it far more than its share.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"


@dataclass(frozen=True)
class Network:
    """What is trained, and its name elsewhere; without a timm name, it is in torch_cifar.py."""

    image_size: int
    num_classes: int
    batch_size: int
    timm: str | None = None
    keras: str | None = None
    timm_options: Mapping[str, float] = field(default_factory=dict)


NETWORKS = {
    "resnet50": Network(224, 1000, 16, "resnet50", "ResNet50"),
    "densenet121": Network(224, 1000, 16, "densenet121", "DenseNet121"),
    "efficientnet_b0": Network(
        224, 1000, 16, "efficientnet_b0", "EfficientNetB0", {"drop_rate": 0.2, "drop_path_rate": 0.2}
    ),
    "regnety_4g": Network(224, 1000, 16, "regnety_040"),
    "resnet20": Network(32, 10, 128),
    "wrn_28_10": Network(32, 10, 16),
    "vit_small_16": Network(224, 1000, 8, "vit_small_patch16_224"),
    "deit_small": Network(224, 1000, 8, "deit_small_patch16_224", timm_options={"drop_path_rate": 0.1}),
    "swin_tiny": Network(224, 1000, 8, "swin_tiny_patch4_window7_224", timm_options={"drop_path_rate": 0.2}),
    "coatnet_0": Network(224, 1000, 8, "coatnet_0_224", timm_options={"drop_path_rate": 0.2}),
}
CONTESTANTS = ("kcls", "PyTorch", "compiled", "Keras")  # the columns of the table
PRECISIONS = ("float32", "bfloat16")
LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4

Step = Callable[[], float]


# The contestants: each returns a step, which returns the loss, and the number of trainable parameters.


def keras_contestant(contestant: str, name: str, precision: str, batch_size: int, threads: int) -> tuple[Step, int]:
    """The model, its optimizer and its step as kcls.training makes them."""
    import keras
    import numpy as np
    import tensorflow as tf

    from kcls.methods import Method
    from kcls.models import create_model
    from kcls.models.count import trainable_params
    from kcls.training.fast_layers import speed_up
    from kcls.training.loop import make_train_step
    from kcls.training.objective import CrossEntropy
    from kcls.training.optimizer import SGD, Schedule
    from kcls.training.stages import compile_method

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    network = NETWORKS[name]
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    if contestant == "Keras":
        model = getattr(keras.applications, network.keras)(weights=None, classifier_activation=None)
    else:
        model = create_model(name, num_classes=network.num_classes)
        speed_up(model)
    optimizer = SGD(Schedule(LR, total=1000), momentum=MOMENTUM, l2=WEIGHT_DECAY)
    optimizer.build(model.trainable_variables)
    method = Method(model)
    compile_method(method, optimizer, CrossEntropy())
    train_step = make_train_step(method, tf.distribute.get_strategy())

    random = np.random.default_rng(0)
    shape = (batch_size, network.image_size, network.image_size, 3)
    images = tf.constant(random.integers(0, 256, shape), tf.uint8)
    labels = tf.constant(random.integers(0, network.num_classes, batch_size), tf.int64)
    return lambda: float(train_step((images, labels))), trainable_params(model)


def torch_contestant(contestant: str, name: str, precision: str, batch_size: int, threads: int) -> tuple[Step, int]:
    import torch

    torch.set_num_threads(threads)
    network = NETWORKS[name]
    if network.timm:
        sys.path.insert(0, str(TESTS))
        from parity import import_timm

        model = import_timm().create_model(network.timm, num_classes=network.num_classes, **network.timm_options)
    else:
        from torch_cifar import create_model

        model = create_model(name, network.num_classes)
    model = model.train().to(memory_format=torch.channels_last)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    optimizer = torch.optim.SGD(model.parameters(), LR, MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True)
    if contestant == "compiled":
        model = torch.compile(model)
    size = network.image_size
    images = torch.rand(batch_size, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.randint(0, network.num_classes, (batch_size,))

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, count


def take_part(contestant: str, name: str, precision: str, batch_size: int, threads: int) -> None:
    """The contestant's process: says what it has built, then answers each line, a number of seconds, with its speed."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the libraries print is no answer
    make = torch_contestant if contestant in ("PyTorch", "compiled") else keras_contestant
    began = time.perf_counter()
    step, parameters = make(contestant, name, precision, batch_size, threads)
    for _ in range(2):
        loss = step()
    print(json.dumps({"parameters": parameters, "loss": loss, "start": time.perf_counter() - began}), file=answers)
    for line in sys.stdin:
        steps, began = 0, time.perf_counter()
        while not steps or time.perf_counter() - began < float(line):
            step()
            steps += 1
        print(json.dumps(steps * batch_size / (time.perf_counter() - began)), file=answers)


class Process:
    """A contestant, seen from the referee."""

    def __init__(self, *arguments: str | int):
        threads = str(arguments[-1])
        quiet = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--take-part", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **quiet},
        )

    def answer(self, question: str = ""):
        """The answer to a question; the first comes unasked."""
        if question:
            print(question, file=self.process.stdin, flush=True)
        if not (line := self.process.stdout.readline()):
            self.log.seek(0)
            raise RuntimeError(f"{' '.join(self.process.args)} failed:\n{self.log.read()[-3000:]}")
        return json.loads(line)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def contest(name: str, precision: str, options: argparse.Namespace) -> dict:
    """The speed of every contestant that has the network, in images per second, of all rounds."""
    network = NETWORKS[name]
    batch_size = options.batch_size or network.batch_size
    taking_part = [c for c in options.contestants if c != "Keras" or network.keras]
    processes = {}
    try:
        for contestant in taking_part:
            processes[contestant] = Process(contestant, name, precision, batch_size, options.threads)
        built = {contestant: process.answer() for contestant, process in processes.items()}
        counts = [b["parameters"] for b in built.values()]
        if max(counts) > 1.002 * min(counts):  # Keras's ResNet50 has biases before its norms
            raise RuntimeError(f"these are not the same network: {built}")
        speeds = {contestant: [] for contestant in taking_part}
        for _ in range(options.rounds):
            for contestant, process in processes.items():
                speeds[contestant].append(process.answer(str(options.seconds)))
    finally:
        for process in processes.values():
            process.end()
    return {
        "model": name,
        "precision": precision,
        "batch_size": batch_size,
        "images_per_second": speeds,
        "built": built,
    }


def table_row(result: dict) -> str:
    medians = {c: statistics.median(speeds) for c, speeds in result["images_per_second"].items()}
    spread = max(abs(s / medians[c] - 1) for c, speeds in result["images_per_second"].items() for s in speeds)
    others = [speed for contestant, speed in medians.items() if contestant != "kcls"]
    ratio = f"{medians['kcls'] / max(others):.2f}" if others and "kcls" in medians else ""
    speeds = [f"{medians[c]:.3g}" if c in medians else "" for c in CONTESTANTS]
    cells = [result["model"], result["precision"], str(result["batch_size"]), *speeds, ratio, f"{spread:.0%}"]
    return f"| {' | '.join(cells)} |"


def versions() -> str:
    from importlib.metadata import version

    packages = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "torch", "timm"))
    return f"Python {platform.python_version()}, {packages}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=["kcls", "PyTorch", "Keras"])
    parser.add_argument("--batch-size", type=int, help="of all models; without it, 16 images, and 128 for resnet20")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one round of one contestant, at least one step")
    parser.add_argument("--json", type=Path, help="a file for all rounds")
    options = parser.parse_args()

    began = time.perf_counter()
    print(f"{options.threads} threads; load {os.getloadavg()[0]:.1f} before the start; {versions()}\n")
    print(f"| model | precision | batch | {' | '.join(CONTESTANTS)} | kcls / best other | spread |")
    print("|---" * (5 + len(CONTESTANTS)) + "|")
    results = []
    for name in options.models:
        for precision in options.precision:
            results.append(contest(name, precision, options))
            print(table_row(results[-1]), flush=True)
    print(f"\n{time.perf_counter() - began:.0f} seconds in all")
    if options.json:
        report = {
            "threads": options.threads,
            "versions": versions(),
            "platform": platform.platform(),
            "results": results,
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--take-part"]:
        take_part(*sys.argv[2:5], *map(int, sys.argv[5:7]))
    else:
        main()
