"""Start-up of the light commands: `python benchmarks/startup.py MODEL.tflite IMAGE`.

Each is timed as a person feels it: a new process, from the call to its end; the median of several.
"""

import statistics
import subprocess
import sys
import time

REPEATS = 7


def seconds(*command: str) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main(model: str, image: str) -> None:
    base = seconds(sys.executable, "-c", "pass")
    print(f"python, doing nothing                  {base:6.2f} s")
    rows = {
        "kcls --help": ["--help"],
        "kcls models": ["models"],
        "kcls predict MODEL.tflite IMAGE": ["predict", model, image],
    }
    for name, arguments in rows.items():
        print(f"{name:<38} {seconds(sys.executable, '-m', 'kcls', *arguments):6.2f} s")
    print(f"import tensorflow, for comparison      {seconds(sys.executable, '-c', 'import tensorflow'):6.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
