"""``fastrnn info``: describe a model, or this installation of fastrnn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import fastrnn
from fastrnn.cli.output import as_json, as_lines
from fastrnn.core.terminal import write

if TYPE_CHECKING:
    from fastrnn.data.vocabulary import Vocabulary
    from fastrnn.inference.mixture import Mixture

#: The first line of settings that are printed.
ABOUT = (
    "# For fastrnn train --config. The texts, their encoding, the model to begin with and the seed are not "
    "among these settings."
)


@click.command()
@click.argument("model", required=False)
@click.option("--json", "to_json", is_flag=True, help="Print JSON.")
@click.option(
    "--toml", "to_settings", is_flag=True, help="Print the settings of MODEL's training, for train --config."
)
def info(model: str | None, to_json: bool, to_settings: bool) -> None:
    """Describe MODEL; without MODEL, describe this installation: versions, backends and threads."""
    if to_settings:
        if model is None or to_json:
            raise click.UsageError("--toml is for a MODEL, and not with --json")
        from fastrnn.training.settings import settings_of, to_toml

        write(f"{ABOUT}\n{to_toml(settings_of(fastrnn.load(model, backend='numpy')))}")
        return
    description = _describe_model(model) if model is not None else _describe_system()
    if model is None and not to_json:
        description["auto"] += f" ({description.pop('auto_reason')})"
    write((as_json(description, indent=2) if to_json else as_lines(description)) + "\n")


def _describe_model(path: str) -> dict[str, Any]:
    model = fastrnn.load(path, backend="numpy")
    network = model.network
    return {
        "cell": network.cell,
        "hidden_size": network.hidden_size,
        "dtype": network.dtype.name,
        "parameters": int(network.flat.size),
        "vocabulary": _describe_vocabulary(model.vocabulary),
        "newlines": model.vocabulary.newlines,
        "normalization": model.vocabulary.normalization or "none",
        "trained_on": f"{int(model.counts.sum()):,} symbols",
        "counts": _describe_counts(model.mixture),
        "last_record": model.history[-1] if model.history else {},
        "kept_record": model.kept_record or {},
        "evaluation": {} if model.evaluation is None else model.evaluation.describe(),
        "settings": model.settings,
    }


def _describe_counts(mixture: Mixture | None) -> str:
    """What is counted beside the network."""
    if mixture is None:
        return "none"
    table = mixture.table
    return f"{table.n_nodes - 1:,} contexts of up to {table.order} symbols, {table.n_bytes / 1e6:.3g} MB"


def _describe_vocabulary(vocabulary: Vocabulary) -> str:
    """How many symbols there are, and which of them are not in texts."""
    others = ["the boundary of documents"] * vocabulary.boundary + ["the unknown symbol"] * vocabulary.unknown
    return ", one of them ".join([f"{vocabulary.size} {vocabulary.unit}s", *others])


def _describe_system() -> dict[str, Any]:
    import platform

    import cffi
    import numpy as np

    from fastrnn.backends.backend import Backend
    from fastrnn.backends.registry import AUTO_REASONS, BACKENDS, find_backend
    from fastrnn.core.thread_team import usable_cores

    backends = {}
    for name in BACKENDS:
        found = find_backend(name)
        if isinstance(found, Backend):
            about = found.description
            backends[name] = f"{about.version}" + (
                f", {about.vector_bits}-bit vectors, fma: {'yes' if about.fma else 'no'}"
                if about.vector_bits
                else ""
            )
        else:
            backends[name] = f"missing: {found}"
    auto = fastrnn.get_backend("auto").name
    return {
        "fastrnn": fastrnn.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cffi": cffi.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "backends": backends,
        "auto": auto,
        "auto_reason": AUTO_REASONS[auto],
        "threads": usable_cores(),
    }
