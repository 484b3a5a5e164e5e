"""What the command line prints: tables for people, JSON and CSV for scripts."""

import csv
import json
import shlex
import sys
from collections.abc import Iterable
from typing import Any

import click

MOST_CLASSES = 50  # rows of a table that are read
WORST_CLASSES = 10  # rows that are shown instead of more


def next_command(where: str, *arguments: object) -> None:
    """Prints where the results are, and the next command, ready to be copied."""
    if where:
        click.echo(f"\n{where}")
    words = [word if word == "IMAGE..." else shlex.quote(word) for word in map(str, arguments)]
    click.echo(f"Next: kcls {' '.join(words)}")


def print_json(value: Any) -> None:
    """Prints a value as one line of JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, allow_nan=False))


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Prints a table; on a terminal as wide as that, else as wide as it must be."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # names may hold what rich takes for markup
    width = None if sys.stdout.isatty() else 1000  # a file or a pipe is as wide as the table
    Console(width=width).print(table)


def print_summary(images: str, summary: dict[str, Any]) -> None:
    """Prints an evaluation's numbers in one line, after the name of the split or folder."""
    numbers = "  ".join(f"{key} {number(value)}" for key, value in summary.items() if key != "count")
    click.echo(f"{images}: {summary['count']:,} images  {numbers}")


def print_classes(rows: list[dict[str, Any]]) -> None:
    """Prints the numbers of each class that occurs; of more than ``MOST_CLASSES``, those of the worst ones."""
    rows = [row for row in rows if row["count"]]
    shown = rows if len(rows) <= MOST_CLASSES else sorted(rows, key=lambda row: row["recall"])[:WORST_CLASSES]
    columns = ["class", "count", "precision", "recall", "f1"]
    print_table(columns, ([number(row[c]) for c in columns] for row in shown))
    if len(shown) < len(rows):
        click.echo(
            f"These are the {len(shown)} of {len(rows):,} classes with the lowest recall; --json and per_class.csv in "
            "--out have all."
        )


def print_exports(reports: list[dict[str, Any]]) -> None:
    """Prints what became of each exported file."""
    columns = ["format", "quantize", "size", "top1 model", "top1 file", "agreement", "latency"]
    print_table(
        columns,
        (
            [
                r["format"],
                r["quantize"],
                f"{r['size_bytes'] / 1024:,.0f} KiB",
                number(r["top1_model"]),
                number(r["top1"]),
                number(r["agreement"]),
                f"{r['latency_ms']:.2f} ms",
            ]
            for r in reports
        ),
    )
    click.echo(f"compared on {reports[0]['count']:,} images of {reports[0]['split']}; latency of one image")
    for report in reports:
        if report.get("tried"):
            _print_tried(report)
    for page in (shlex.quote(r["path"]) for r in reports if r["format"] == "web"):
        click.echo(f"Look at it on http://127.0.0.1:8000: python -m http.server -d {page} --bind 127.0.0.1 8000")
        click.echo("(elsewhere than on this machine, browsers allow the camera on https only)")


def _print_tried(report: dict[str, Any]) -> None:
    """Prints what ``quantize auto`` tried for a file."""
    rows = []
    for r in report["tried"]:
        name = r["quantize"] + (f", {r['layers_in_float']} in float" if "layers_in_float" in r else "")
        cost = [f"{r['size_bytes'] / 1024:,.0f} KiB", f"{r['latency_ms']:.2f} ms"] if "latency_ms" in r else ["-", "-"]
        rows.append([name, *cost, number(r.get("top1")), number(r.get("agreement")), r["refused"] or "good"])
    split = next((r["split"] for r in report["tried"] if "split" in r), "the images to choose on")
    click.echo(f"\nauto tried, on {split}, and took {report['quantize']}:")
    print_table(["quantize", "size", "latency", "top1", "agreement", ""], rows)
    if "advice" in report:
        click.echo(report["advice"])


def print_benchmark(found: dict[str, Any]) -> None:
    """Prints what was measured of TFLite files; loading and memory with the first number of threads."""
    threads = [f"{run['threads']} thread{'s' * (run['threads'] > 1)}" for run in found["files"][0]["runs"]]
    columns = ["file", "size", "load", "memory", "partitions", "left out"]
    columns += [f"{share}, {each}" for each in threads for share in ("p50", "p95")]
    rows = []
    for file in found["files"]:
        first = file["runs"][0]
        row = [file["path"], _mebibytes(file["size_bytes"]), f"{first['load_ms']:.1f} ms"]
        row += [_mebibytes(first["peak_memory_bytes"]), str(file["partitions"])]
        row += [f"{sum(file['left_out'].values())} of {file['operators']}"]
        rows.append(row + [f"{run[key]:.3f} ms" for run in file["runs"] for key in ("p50_ms", "p95_ms")])
    print_table(columns, rows)
    for file in found["files"]:
        if file["left_out"]:
            names = ", ".join(f"{count} {name}" for name, count in file["left_out"].items())
            click.echo(f"XNNPACK leaves out of {file['path']}: {names}")
    machine, before = found["machine"], _mebibytes(found["files"][0]["runs"][0]["memory_before_bytes"])
    click.echo(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['os']}, load {machine['load']:.1f} at the start; "
        f"{machine['runtime']}, Python {machine['python']}\n"
        f"load: opening, allocating and the first call, {threads[0]}; memory: the peak of that process, {before} of it "
        "before the file was opened\n"
        f"p50, p95: of one image, in {found['seconds']:g} s of calls for each file and number of threads"
    )


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.2f} MiB"


def number(value: Any) -> str:
    """A fraction with four digits, a dash for None, or the value as it is."""
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def plain(value: Any) -> str:
    """A value of the catalogue as a person reads it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} ({plain(each)})" for key, each in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(plain(each) for each in value) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value if value not in (None, {}) else "none")


def show_table(predictions) -> int:
    """Prints predictions as a table, errors on stderr; returns how many images failed."""
    failed = 0
    rows = []
    for p in predictions:
        if p.error:
            failed += 1
            click.echo(f"{p.image}: {p.error}", err=True)
        for rank, (label, probability) in enumerate(p.labels):
            rows.append(["" if rank else p.image, label, f"{probability:.4f}"])
    if rows:
        print_table(["image", "label", "probability"], rows)
    return failed


def show_csv(predictions) -> int:
    """Prints predictions as CSV, a row for each label; returns how many images failed."""
    failed = 0
    writer = csv.writer(sys.stdout)
    writer.writerow(["image", "rank", "label", "probability", "error"])
    for p in predictions:
        failed += bool(p.error)
        if p.error:
            writer.writerow([p.image, "", "", "", p.error])
        for rank, (label, probability) in enumerate(p.labels, 1):
            writer.writerow([p.image, rank, label, f"{probability:.6f}", ""])
    return failed


def show_json_lines(predictions) -> int:
    """Prints predictions as JSON, a line for each image; returns how many images failed."""
    failed = 0
    for p in predictions:
        failed += bool(p.error)
        answer = (
            {"error": p.error} if p.error else {"predictions": [{"label": n, "probability": v} for n, v in p.labels]}
        )
        print_json({"image": p.image, **answer})
    return failed
