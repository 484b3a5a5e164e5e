"""``kcls benchmark``."""

import shlex

import click

from kcls.cli.shared import as_json
from kcls.printing import print_benchmark, print_json

# benchmark_model: https://ai.google.dev/edge/litert/next/benchmark; its flags are those of
# https://github.com/tensorflow/tensorflow/tree/master/tensorflow/lite/tools/benchmark. The other program comes with
# ai-edge-litert.
ON_DEVICES = """
On an Android phone with USB debugging, {which}:
  curl -LO https://storage.googleapis.com/litert/binaries/latest/android_arm64/benchmark_model
  adb push benchmark_model /data/local/tmp/benchmark_model
  adb push {path} /data/local/tmp/model.tflite
  adb shell chmod +x /data/local/tmp/benchmark_model
  adb shell /data/local/tmp/benchmark_model --graph=/data/local/tmp/model.tflite --num_threads=4 --num_runs=100

On a Raspberry Pi with a 64-bit system, {which}:
  scp {path} raspberrypi.local:model.tflite
  ssh raspberrypi.local
  python3 -m venv litert && litert/bin/pip install 'ai-edge-litert>=2.3'
  litert/bin/python -m ai_edge_litert.tools.benchmark_litert_model \\
    --model=model.tflite --num_threads=4 --num_runs=100"""


@click.command()
@click.argument("artifacts", nargs=-1, type=click.Path(), metavar="[RUN|TFLITE_FILE]...")
@click.option(
    "--threads", multiple=True, type=int, help="Given again, another number. [default: 1 and the number of cores]"
)
@click.option("--seconds", default=2.0, show_default=True, help="Of calls, for each file and each number of threads.")
@as_json
def benchmark(artifacts, threads, seconds, json_) -> None:
    """Measure TFLite files on this machine: latency, loading, memory, size, and what XNNPACK runs of them.

    Several files take turns. A run stands for all TFLite files in its export folder. At the end come the commands
    that measure the fastest file on a phone and on a Raspberry Pi.
    """
    from kcls.exporting.benchmark import benchmark as benchmark_

    found = benchmark_(artifacts or None, threads=threads, seconds=seconds)
    if json_:
        print_json(found)
        return
    print_benchmark(found)
    files = found["files"]
    fastest = min(files, key=lambda file: min(run["p50_ms"] for run in file["runs"]))
    which = "the fastest file" if files[1:] else "the file"
    click.echo(ON_DEVICES.format(which=which, path=shlex.quote(fastest["path"])))
