"""``fastrnn plot``: draw the history of a training."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import click

import fastrnn
from fastrnn.cli.saving import require_no_input
from fastrnn.core.terminal import tell, write

#: The columns of a history that are drawn, with the label of their axis.
PANELS = {
    ("loss", "validation_loss"): "loss",
    ("gradient_norm",): "norm of the gradient",
    ("learning_rate",): "learning rate",
}


@click.command()
@click.argument("run")
@click.option(
    "-o", "--output", help="Where to write the picture (PNG, PDF or SVG); - is stdout.  [default: RUN.png]"
)
def plot(run: str, output: str | None) -> None:
    """Draw loss, norm of the gradient and learning rate of RUN.

    RUN is a model, a checkpoint, or a file of --metrics.
    """
    place = output if output is not None else f"{run}.png"
    from fastrnn.core.atomic import require_place

    if place != "-":
        require_place(place, "picture")
        require_no_input("--output", place, [run], "drawn")
    columns, title = _columns(run)
    if not columns:
        raise ValueError(f"{run} has no records to draw")
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ValueError("fastrnn plot needs matplotlib: pip install 'fastrnn[plot]'") from error
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    if "step" not in columns:
        raise ValueError(f"{run} has no column 'step'")
    panels = {names: label for names, label in PANELS.items() if columns.keys() & set(names)}
    if not panels:
        raise ValueError(f"{run} has none of the columns that are drawn: {', '.join(sum(PANELS, ()))}")
    figure, axes = plt.subplots(len(panels), sharex=True, figsize=(8, 2.6 * len(panels)), squeeze=False)
    for axis, (names, label) in zip(axes[:, 0], panels.items(), strict=True):
        for name in names:
            if name in columns:
                axis.plot(columns["step"], columns[name], label=name.replace("_", " "), marker=".")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        axis.legend(loc="upper right")
    axes[-1, 0].set_xlabel("update")
    axes[0, 0].set_title(title)
    figure.tight_layout()
    drawn = io.BytesIO()
    figure.savefig(drawn if place == "-" else place, dpi=120)
    plt.close(figure)
    if place == "-":
        write(drawn.getvalue())
    else:
        tell(f"wrote {place}")


def _columns(run: str) -> tuple[dict[str, Any], str]:
    """The columns of a run's history, and a title."""
    import numpy as np

    try:
        model = fastrnn.load(run, backend="numpy")
    except fastrnn.CheckpointError as error:
        try:
            lines = Path(run).read_text(encoding="utf-8").splitlines(keepends=True)
            records = [json.loads(line) for line in lines if line.endswith("\n")]  # the last may be torn
            names = {name for record in records for name in record}
        except (ValueError, AttributeError, TypeError):
            raise error from None
        columns = {
            name: np.array([record.get(name, np.nan) for record in records], np.float64) for name in names
        }
        return columns, Path(run).name
    columns = model.history.columns()
    unit = f"nats per {model.vocabulary.unit}"
    return columns, f"{Path(run).name}: {model.network.cell}, {model.network.hidden_size} units, {unit}"
