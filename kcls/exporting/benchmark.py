"""The benchmark: how fast, how large and how whole TFLite files are on LiteRT, side by side on this machine.

Every file runs in processes of its own, one for each number of threads, see ``measure``. They take turns, round by
round, so that what else happens on the machine meets them all.
"""

import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from kcls.errors import KclsError, RecipeError
from kcls.formats import FORMATS
from kcls.run import Run, finished_run, is_run

ROUNDS = 5
RUNTIME = "ai-edge-litert"


def benchmark(
    artifacts: Run | str | Path | Sequence[Run | str | Path] | None = None,
    *,
    threads: Sequence[int] | None = None,
    seconds: float = 2.0,
) -> dict[str, Any]:
    """Measures TFLite files on LiteRT with XNNPACK; needs no TensorFlow.

    Args:
        artifacts: TFLite files, of kcls or not; a run stands for all that are in its ``export/``; None is the newest
            finished run.
        threads: numbers of threads, each measured; None is 1 and the number of cores.
        seconds: of calls, for each file and number of threads.

    Returns:
        ``machine``: ``cpu``, ``cores``, ``os``, ``load`` (the mean number of busy programs in the minute before),
        ``runtime`` and ``python``; ``seconds``; and ``files``, for each:

        - ``path``, ``size_bytes``
        - ``partitions``: pieces of the graph that XNNPACK runs; 1 is a network that it runs as a whole
        - ``operators`` of the graph, and ``left_out``: those that XNNPACK does not run, counted by name
        - ``runs``, one for each number of ``threads``: ``load_ms`` (opening, allocating and the first call, the file
          in the cache of the disk), ``p50_ms`` and ``p95_ms`` of ``calls`` calls of one image, ``peak_memory_bytes``
          (the largest resident set of the process) and ``memory_before_bytes`` (what of that Python, NumPy and LiteRT
          had before the file was opened)

    Raises:
        RecipeError: a number of threads or the seconds make no sense.
        KclsError: there is no such file, it is no TFLite model, or LiteRT cannot run it.
    """
    threads = tuple(dict.fromkeys(threads or (1, cores())))
    if unfit := [each for each in threads if each < 1]:
        raise RecipeError(f"threads are 1 or more, not {unfit[0]}")
    if not 0 < seconds < math.inf:
        raise RecipeError(f"seconds are a number more than 0, not {seconds:g}")
    if artifacts is None or isinstance(artifacts, Run | str | Path):
        artifacts = [finished_run(None) if artifacts is None else artifacts]
    files = list(dict.fromkeys(file for artifact in artifacts for file in _files(artifact)))
    for file in files:
        _check(file)
    found = machine()
    with ExitStack() as stack:
        workers = [[stack.enter_context(_worker(file, each)) for each in threads] for file in files]
        for _ in range(ROUNDS):
            for worker in (worker for row in workers for worker in row):
                worker.measure(seconds / ROUNDS)
        rows = [_row(file, row) for file, row in zip(files, workers, strict=True)]
    return {"machine": found, "seconds": seconds, "files": rows}


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """What is measured on, see ``benchmark``."""
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "os": platform.platform(),
        "load": os.getloadavg()[0],
        "runtime": f"{RUNTIME} {version(RUNTIME)}",
        "python": platform.python_version(),
    }


def _cpu() -> str:
    """The processor as the system calls it, else its architecture."""
    table = Path("/proc/cpuinfo")
    for line in table.read_text().splitlines() if table.is_file() else ():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.processor() or platform.machine()


def _files(artifact: Run | str | Path) -> list[Path]:
    """The TFLite files that are meant."""
    tflite = FORMATS["tflite"]
    if isinstance(artifact, Run) or is_run(artifact):
        run = finished_run(artifact)
        files = sorted(file for file in (run.path / "export").glob("[!.]*") if tflite.recognises(file))
        if not files:
            raise KclsError(f"{run.path} has no {tflite.title} yet; `kcls export {run.path} {tflite.flag}` writes one")
        return files
    return [Path(artifact)]


def _check(file: Path) -> None:
    """Raises a KclsError if it is no TFLite model; reads all of it, so that loading finds it in the disk's cache."""
    try:
        contents = file.read_bytes() if file.is_file() else b""
    except OSError as error:
        raise KclsError(f"cannot read {file}: {error.strerror}") from None
    if contents[4:8] != b"TFL3":
        what = f"{file} is no TFLite model" if file.exists() else f"no file at {file}"
        raise KclsError(f"{what}; only TFLite files are measured: `kcls export ARTIFACT --tflite` makes them")


class _Worker:
    """A process that measures one file with one number of threads.

    Attributes:
        loaded: its first answer.
        milliseconds: of every call so far.
        peak_memory: bytes.
    """

    def __init__(self, file: Path, threads: int, process: subprocess.Popen, log: IO[str]):
        self.file, self.threads, self._process, self._log = file, threads, process, log
        self._asks, self._answers = cast(IO[str], process.stdin), cast(IO[str], process.stdout)
        self.milliseconds: list[float] = []
        self.peak_memory = 0
        self.loaded = self._answer()

    def measure(self, seconds: float) -> None:
        """Makes calls for that time."""
        with suppress(BrokenPipeError):  # it has ended, and the answer is how
            os.write(self._asks.fileno(), f"{seconds}\n".encode())
        answer = self._answer()
        self.milliseconds += answer["milliseconds"]
        self.peak_memory = answer["peak_memory_bytes"]

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        answer = json.loads(line) if line else {"error": self._end()}
        if "error" in answer:
            raise KclsError(f"{self.file} does not run on {RUNTIME} {version(RUNTIME)}: {answer['error']}")
        return answer

    def _end(self) -> str:
        """How a process that should have gone on ended."""
        code = self._process.wait()
        if code < 0:
            return f"its process ended with {signal.Signals(-code).name}; the file is damaged, or memory ran out"
        self._log.seek(0)
        return f"exit code {code}: " + "".join(self._log.read().splitlines()[-1:])


@contextmanager
def _worker(file: Path, threads: int) -> Iterator[_Worker]:
    """Starts one; it is ended with the block."""
    program = Path(__file__).with_name("measure.py")
    command = [sys.executable, "-P", str(program), str(file), str(threads)]  # -P: what lies beside it is not imported
    with (
        tempfile.TemporaryFile("w+", errors="replace") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            yield _Worker(file, threads, process, log)
        finally:
            process.kill()


def _row(file: Path, workers: list[_Worker]) -> dict[str, Any]:
    """What was found of a file."""
    first = workers[0].loaded
    cut = {name: first[name] for name in ("partitions", "operators", "left_out")}
    return {"path": str(file), "size_bytes": file.stat().st_size, **cut, "runs": [_run(worker) for worker in workers]}


def _run(worker: _Worker) -> dict[str, Any]:
    p50, p95 = np.percentile(worker.milliseconds, [50, 95]).tolist()
    return {
        "threads": worker.threads,
        "load_ms": worker.loaded["load_ms"],
        "p50_ms": p50,
        "p95_ms": p95,
        "calls": len(worker.milliseconds),
        "peak_memory_bytes": worker.peak_memory,
        "memory_before_bytes": worker.loaded["memory_before_bytes"],
    }
