"""``kcls runs``."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from kcls.cli.shared import as_json
from kcls.printing import number, print_json, print_table

if TYPE_CHECKING:
    from kcls.run import Run


@click.command()
@as_json
def runs(json_) -> None:
    """List the runs in runs/, or where KCLS_RUNS says, the newest last: how far, how good, how large."""
    from kcls.run import list_runs, runs_root

    rows = [_row(run) for run in list_runs()]
    if json_:
        print_json(rows)
    elif rows:
        columns = ["run", "model", "state", "best val_top1", "size", "started"]
        print_table(columns, ([number(value) for value in _shown(row)] for row in rows))
    else:
        click.echo(f"no runs in {runs_root()}; `kcls train recipe.yaml` makes one")


def _row(run: "Run") -> dict[str, Any]:
    """What is known of a run without its model."""
    history = run.history()
    return {
        "run": str(run.path),
        "model": run.recipe.model.name,
        "epochs": len(history),
        "of": run.recipe.train.total_epochs,
        "finished": run.finished,
        "best_val_top1": max((row["val_top1"] for row in history if row["best"]), default=None),
        "size_bytes": sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file()),
        "started": datetime.fromtimestamp(run.recipe_file.stat().st_mtime).isoformat(" ", "minutes"),
    }


def _shown(row: dict[str, Any]) -> list[Any]:
    state = "finished" if row["finished"] else f"epoch {row['epochs']} of {row['of']}"
    size = f"{row['size_bytes'] / 2**20:.1f} MiB"
    return [row["run"], row["model"], state, row["best_val_top1"], size, row["started"]]
