"""One TFLite file on LiteRT in a process of its own: what loading it takes, then how long its calls take.

``benchmark`` starts it as ``python measure.py FILE THREADS``. It imports nothing but LiteRT and NumPy, so that the
memory it reports is that of the file and its runtime. It answers in lines of JSON: first what loading took and what
XNNPACK took over, or an error; then, for each line on stdin, a number of seconds, the calls that fitted into that time.
"""

import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

LEAST_CALLS = 4  # in a round, however long they take
DELEGATE = "DELEGATE"


def peak_memory() -> int:
    """Bytes of the largest resident set that this process has had.

    Linux keeps the peak of a parent in a child's ``ru_maxrss``, through ``exec``; ``VmHWM`` is this program's own.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # of macOS, in bytes


def load(file: str, threads: int, random: np.random.Generator) -> tuple[Interpreter, float]:
    """A file's interpreter after its first call, and the milliseconds that opening, allocating and that call took."""
    began = time.perf_counter()
    interpreter = Interpreter(file, num_threads=threads)
    interpreter.allocate_tensors()
    opened = time.perf_counter()
    for tensor in interpreter.get_input_details():
        values = random.integers(0, 128, tensor["shape"])  # every type of numbers has these
        interpreter.set_tensor(tensor["index"], values.astype(tensor["dtype"]))
    filled = time.perf_counter()
    interpreter.invoke()
    return interpreter, 1000 * (opened - began + time.perf_counter() - filled)


def partitions(interpreter: Interpreter) -> dict[str, Any]:
    """How XNNPACK cut the graph up.

    Returns:
        ``partitions``, the pieces that it runs; ``operators`` of the whole graph; and ``left_out``, those of them that
        LiteRT runs itself, counted by name.
    """
    nodes = interpreter._get_ops_details()  # the whole graph's, and behind them a DELEGATE for each piece
    delegates = [node for node in nodes if node["op_name"] == DELEGATE]
    own = [node for node in nodes if node["op_name"] != DELEGATE]
    # A tensor that a DELEGATE makes is also made by a node that it replaced: the DELEGATE is the one that runs.
    makers = {int(tensor): node for node in (*own, *delegates) for tensor in node["outputs"]}
    left_out, seen = {}, set()
    waiting = [int(tensor["index"]) for tensor in interpreter.get_output_details()]
    while waiting:  # from the outputs back to the inputs, over the nodes that run
        tensor = waiting.pop()
        if tensor in seen or tensor not in makers:
            continue
        seen.add(tensor)
        node = makers[tensor]
        if node["op_name"] != DELEGATE:
            left_out[node["index"]] = node["op_name"]
        waiting.extend(map(int, node["inputs"]))
    counts = Counter(left_out.values())
    return {"partitions": len(delegates), "operators": len(own), "left_out": dict(sorted(counts.items()))}


def calls(interpreter: Interpreter, seconds: float) -> list[float]:
    """Milliseconds of each call in ``seconds``; the first, which finds cold caches, is not counted."""
    interpreter.invoke()
    milliseconds: list[float] = []
    began = time.perf_counter()
    while len(milliseconds) < LEAST_CALLS or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        interpreter.invoke()
        milliseconds.append(1000 * (time.perf_counter() - start))
    return milliseconds


def answer(value: dict[str, Any]) -> None:
    """Writes one line."""
    print(json.dumps(value), flush=True)


def main(file: str, threads: str) -> None:
    """Answers until stdin ends."""
    random = np.random.default_rng(0)
    before = peak_memory()
    try:
        interpreter, load_ms = load(file, int(threads), random)
    except (ValueError, RuntimeError) as error:  # what LiteRT raises for a file that it cannot run
        answer({"error": str(error).strip().splitlines()[0]})
        return
    answer({"load_ms": load_ms, "memory_before_bytes": before, **partitions(interpreter)})
    for line in sys.stdin:
        answer({"milliseconds": calls(interpreter, float(line)), "peak_memory_bytes": peak_memory()})


if __name__ == "__main__":
    main(*sys.argv[1:])
