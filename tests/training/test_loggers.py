"""The loggers for TensorBoard and MLflow: what they write is read back with these libraries."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import require_library
from helpers.program import QUICK, run

import fastrnn
from fastrnn.callbacks import MLflow, TensorBoard

TEXT = "the cat sat on the mat, and the dog saw the cat. " * 40

#: The names of the numbers that a record of a default training gives.
NAMES = {
    *("loss", "bits_per_symbol", "validation_loss", "validation_bits_per_symbol"),
    *("gradient_norm", "learning_rate", "symbols_per_second"),
    *("held_out_symbols", "held_out_bytes", "held_out_nats_per_symbol", "held_out_bits_per_symbol"),
    *("held_out_bits_per_byte", "held_out_perplexity"),
}


def quick(text: Any = TEXT, **options: Any) -> fastrnn.Model:
    options = {"steps": 50, "rng": 0, "progress": False, "log_every": 10, "hidden_size": 5} | options
    return fastrnn.train(text, **options)


class Stop(fastrnn.Callback):
    """Ends training after an update by an exception of this kind."""

    every = 1

    def __init__(self, update: int, kind: type[BaseException] = ZeroDivisionError) -> None:
        self._update, self._kind = update, kind

    def after_updates(self, training, updates):
        if training.updates == self._update:
            raise self._kind


def fails_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training diverge once, after update 31."""
    real, failed = fastrnn.Trainer.advance, []

    def advance(self, *arguments):
        if self.updates >= 31 and not failed:
            failed.append(1)
            raise fastrnn.DivergenceError("the loss is nan")
        return real(self, *arguments)

    monkeypatch.setattr(fastrnn.Trainer, "advance", advance)


def expected_of(model: fastrnn.Model, name: str) -> list[tuple[int, float]]:
    return [(int(record["step"]), record[name]) for record in model.history]


# ---- TensorBoard -------------------------------------------------------------------------------------


@pytest.fixture
def read_events():
    """Reads a directory of event files with TensorBoard."""
    require_library("tensorboardX")
    require_library("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read(directory: Path) -> EventAccumulator:
        found = EventAccumulator(str(directory), {"scalars": 0, "tensors": 0})
        found.Reload()
        return found

    return read


def scalars(events: Any, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(name)]


def assert_scalars_are(events: Any, model: fastrnn.Model) -> None:
    for name in ("loss", "validation_loss", "gradient_norm", "learning_rate"):
        found, expected = scalars(events, name), expected_of(model, name)
        assert [step for step, _ in found] == [step for step, _ in expected]
        np.testing.assert_allclose([value for _, value in found], [value for _, value in expected], rtol=1e-6)


def test_tensorboard_shows_each_record(tmp_path: Path, read_events):
    model = quick(callbacks=[TensorBoard(tmp_path / "runs" / "one", samples=12)])
    assert model.to_bytes() == quick().to_bytes()
    events = read_events(tmp_path / "runs" / "one")
    assert set(events.Tags()["scalars"]) == NAMES
    assert_scalars_are(events, model)
    bits = dict(scalars(events, "bits_per_symbol"))
    assert math.isclose(bits[49], model.history[-1]["loss"] / math.log(2), rel_tol=1e-6)
    assert all(speed > 0 for _, speed in scalars(events, "symbols_per_second"))
    sample = events.Tensors("sample/text_summary")[-1]
    assert len(sample.tensor_proto.string_val[0].decode()) == 12
    (settings,) = events.Tensors("settings/text_summary")
    assert b"| hidden_size | 5 |\n" in settings.tensor_proto.string_val[0]
    assert b"| optimizer.name | adam |\n" in settings.tensor_proto.string_val[0]


def test_tensorboard_s_table_of_settings_has_them(tmp_path: Path, read_events):
    quick(callbacks=[TensorBoard(tmp_path)])
    from tensorboard.plugins.hparams import metadata

    contents = read_events(tmp_path).PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(contents["_hparams_/session_start_info"])
    assert start.hparams["hidden_size"].number_value == 5
    assert start.hparams["cell"].string_value == "gru"
    assert start.hparams["shuffle"].bool_value is True
    experiment = metadata.parse_experiment_plugin_data(contents["_hparams_/experiment"])
    assert {info.name.tag for info in experiment.metric_infos} == {"loss", "validation_loss"}


def test_tensorboard_goes_on_when_a_checkpoint_is_resumed(tmp_path: Path, read_events):
    saved = {"checkpoint": tmp_path / "checkpoint", "checkpoint_every": 15}
    with pytest.raises(ZeroDivisionError):
        quick(callbacks=[TensorBoard(tmp_path / "run"), Stop(45)], **saved)
    assert [step for step, _ in scalars(read_events(tmp_path / "run"), "loss")] == [0, 10, 20, 30, 40]
    model = quick(callbacks=[TensorBoard(tmp_path / "run")], resume=True, **saved)
    assert_scalars_are(read_events(tmp_path / "run"), model)


def test_tensorboard_leaves_out_what_training_went_back_over(
    tmp_path: Path, read_events, monkeypatch: pytest.MonkeyPatch
):
    fails_once(monkeypatch)
    model = quick(callbacks=[TensorBoard(tmp_path)], learning_rate=1e-6)
    assert_scalars_are(read_events(tmp_path), model)


def test_another_training_takes_the_directory(tmp_path: Path, read_events):
    quick(callbacks=[TensorBoard(tmp_path)], steps=90, log_every=3)
    model = quick(callbacks=[TensorBoard(tmp_path)])
    assert_scalars_are(read_events(tmp_path), model)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (b"\xff\x00 some bytes " * 60, {}),
        (["anna", "bob"] * 30, {"cell": "lstm"}),
        ([0, 1, 2, 1] * 99, {"vocabulary": ["a", "b", "c"]}),
        (TEXT, {"preset": "min-char-rnn", "validation": 0.1}),
        (TEXT, {"validation": 0, "backend": "numpy"}),
    ],
)
def test_tensorboard_takes_texts_of_every_kind(tmp_path: Path, read_events, text: Any, options: dict):
    model = quick(text, callbacks=[TensorBoard(tmp_path, samples=5)], **options)
    events = read_events(tmp_path)
    assert [step for step, _ in scalars(events, "loss")] == [record["step"] for record in model.history]
    losses = dict(scalars(events, "bits_per_symbol"))
    assert 0 < losses[0] < 9
    assert len(events.Tensors("sample/text_summary")) == len(model.history)


def test_a_directory_that_cannot_be_written_does_not_end_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    require_library("tensorboardX")
    (tmp_path / "file").write_text("a file")
    with caplog.at_level(logging.WARNING, "fastrnn"):
        model = quick(callbacks=[TensorBoard(tmp_path / "file" / "run")])
    assert len(model.history) == 6
    assert caplog.text.count("TensorBoard cannot be written") == 1


def test_tensorboard_goes_on_when_the_disk_has_room_again(
    tmp_path: Path, read_events, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    from tensorboardX.event_file_writer import EventsWriter

    real, calls = EventsWriter.flush, []

    def flush(self):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(self)

    monkeypatch.setattr(EventsWriter, "flush", flush)
    with caplog.at_level(logging.WARNING, "fastrnn"):
        model = quick(callbacks=[TensorBoard(tmp_path)])
    assert caplog.text.count("No space left") == 1
    steps = [step for step, _ in scalars(read_events(tmp_path), "loss")]
    assert steps[-1] == model.history[-1]["step"]
    assert len(steps) >= 4


# ---- MLflow ------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a folder where MLflow keeps its runs."""
    require_library("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return (tmp_path / "mlruns").as_uri()


@pytest.fixture
def read_runs(store: str):
    """Returns MLflow's client, and its runs of an experiment."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=store)

    def read(experiment: str = "fastrnn") -> tuple[Any, list[Any]]:
        found = client.get_experiment_by_name(experiment)
        return client, list(client.search_runs([found.experiment_id]))

    return read


def metrics(client: Any, logged: Any, name: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client.get_metric_history(logged.info.run_id, name)]


def test_mlflow_takes_patterns_of_names(store: str, read_runs):
    quick(callbacks=[MLflow("patterns", tracking_uri=store)], learning_rate_factors={"head.*": 0.5})
    _, (logged,) = read_runs("patterns")
    assert logged.data.params["learning_rate_factors"] == "{'head.*': 0.5}"
    assert logged.info.status == "FINISHED"


def test_mlflow_has_each_record(tmp_path: Path, store: str, read_runs):
    logs = MLflow("names", tracking_uri=store, run_name="first", model=True, samples=12)
    model = quick(callbacks=[logs])
    assert model.to_bytes() == quick().to_bytes()
    client, (logged,) = read_runs("names")
    assert (logged.info.status, logged.info.run_name) == ("FINISHED", "first")
    assert set(logged.data.metrics) == NAMES
    for name in ("loss", "validation_loss", "gradient_norm", "learning_rate"):
        assert metrics(client, logged, name) == expected_of(model, name)
    assert logged.data.params["hidden_size"] == "5"
    assert logged.data.params["optimizer.betas"] == "[0.9, 0.999]"
    assert logged.data.metrics["held_out_nats_per_symbol"] == model.evaluation.loss
    assert set(logged.data.params) >= {
        name for name in model.settings if name not in {"optimizer", "schedule"}
    }
    (tmp_path / "down").mkdir()
    path = client.download_artifacts(logged.info.run_id, "model.safetensors", str(tmp_path / "down"))
    assert Path(path).read_bytes() == model.to_bytes()
    samples = client.list_artifacts(logged.info.run_id, "samples")
    assert [Path(sample.path).stem for sample in samples] == [
        f"{step:09}" for step, _ in expected_of(model, "loss")
    ]


def test_mlflow_s_run_goes_on_when_a_checkpoint_is_resumed(tmp_path: Path, store: str, read_runs):
    saved = {"checkpoint": tmp_path / "checkpoint", "checkpoint_every": 15}
    with pytest.raises(ZeroDivisionError):
        quick(callbacks=[MLflow(tracking_uri=store), Stop(44)], **saved)
    client, (logged,) = read_runs()
    assert logged.info.status == "FAILED"
    assert len(metrics(client, logged, "loss")) == 5
    model = quick(callbacks=[MLflow(tracking_uri=store)], resume=True, **saved)
    client, (logged,) = read_runs()
    assert logged.info.status == "FINISHED"
    assert metrics(client, logged, "loss") == expected_of(model, "loss")


def test_a_training_that_was_at_its_end_has_the_same_run(tmp_path: Path, store: str, read_runs):
    saved = {"checkpoint": tmp_path / "checkpoint"}
    model = quick(callbacks=[MLflow(tracking_uri=store)], **saved)
    assert quick(callbacks=[MLflow(tracking_uri=store)], resume=True, **saved).to_bytes() == model.to_bytes()
    client, (logged,) = read_runs()
    assert metrics(client, logged, "loss") == expected_of(model, "loss")


def test_each_training_of_a_logger_has_its_run(store: str, read_runs):
    logs = MLflow(tracking_uri=store)
    models = [quick(callbacks=[logs], rng=seed) for seed in (0, 1)]
    client, runs = read_runs()
    found = sorted(metrics(client, logged, "loss") for logged in runs)
    assert found == sorted(expected_of(model, "loss") for model in models)


def test_an_interrupted_run_of_mlflow_is_killed(store: str, read_runs):
    with pytest.raises(KeyboardInterrupt):
        quick(callbacks=[MLflow(tracking_uri=store), Stop(25, KeyboardInterrupt)])
    _, (logged,) = read_runs()
    assert logged.info.status == "KILLED"


def test_mlflow_keeps_what_training_went_back_over(store: str, read_runs, monkeypatch: pytest.MonkeyPatch):
    fails_once(monkeypatch)
    model = quick(callbacks=[MLflow(tracking_uri=store)], learning_rate=1e-6)
    client, (logged,) = read_runs()
    found = metrics(client, logged, "loss")
    assert {step for step, _ in found} == {step for step, _ in expected_of(model, "loss")}
    assert len(found) > len(model.history)


def test_mlflow_that_fails_does_not_end_training(store: str, caplog: pytest.LogCaptureFixture):
    wrong = MLflow(tracking_uri="nonsense://nowhere")
    with caplog.at_level(logging.WARNING, "fastrnn"):
        model = quick(callbacks=[wrong])
    assert len(model.history) == 6
    assert caplog.text.count("MLflow cannot be written") == 1


@pytest.mark.parametrize(
    "wrong", [{"experiment": None}, {"tracking_uri": 5}, {"run_name": b"x"}, {"model": 1}, {"samples": -1}]
)
def test_mlflow_s_arguments_are_checked(store: str, wrong: dict):
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        MLflow(**wrong)


# ---- Both --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "extra"), [(lambda: TensorBoard("x"), "tensorboard"), (MLflow, "mlflow")])
def test_a_missing_library_is_named_with_its_extra(make: Any, extra: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=rf"pip install 'fastrnn\[{extra}\]'"):
        make()


def test_the_command_line_has_both(tmp_path: Path, store: str, read_events, read_runs, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    text = ["--text", TEXT, "-o", tmp_path / "model"]
    result = run("train", *text, *QUICK, "--tensorboard", tmp_path / "run", "--mlflow", "letters")
    assert result.exit_code == 0
    model = fastrnn.load(tmp_path / "model")
    assert_scalars_are(read_events(tmp_path / "run"), model)
    client, (found,) = read_runs("letters")
    assert metrics(client, found, "loss") == expected_of(model, "loss")
