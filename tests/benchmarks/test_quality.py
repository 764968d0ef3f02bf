"""The quality benchmark: its splits, what it scores, and its tables."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastrnn
from benchmarks.quality import __main__ as program
from benchmarks.quality import report, run
from benchmarks.quality.jobs import CHOSEN, COUNTED, JOBS, STATED
from benchmarks.quality.run import SHOWN, Machine
from benchmarks.quality.texts import TEXTS, UNKNOWN, Split

SETTINGS = dict.fromkeys(SHOWN) | {
    "cell": "gru", "hidden_size": 256, "num_layers": 1, "dropout": 0.1,
    "seq_length": 64, "batch_size": 32, "learning_rate": 0.006,
}  # fmt: skip


def result(job: str, nats: float, seed: int = 0, kind: str = "trained") -> dict[str, object]:
    """A result as `run` returns it."""
    return {
        "job": job, "seed": seed, "nats": nats, "limit": 9.0, "seconds": 9.5, "updates": 77, "kind": kind,
        "settings": SETTINGS, "backend": "c", "xz_bits": 2.0, "by_updates": False,
        "machine": {"processor": "a processor", "cores": 2, "gflops": 100.0},
    }  # fmt: skip


def test_a_slower_core_gets_more_time():
    assert Machine("", 2, 125.0).scale == 2


def test_a_busy_machine_gets_no_more_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(program, "gflops_of_core", lambda _: 80.0)
    assert program.measured("a processor", 2, []).gflops == 80
    before = [result("names-1m", 2.0)]
    assert program.measured("a processor", 2, before).gflops == 100
    assert (
        program.measured("another", 2, before).gflops
        == program.measured("a processor", 1, before).gflops
        == 80
    )


def test_a_running_text_is_scored_in_nats_and_an_unknown_character_costs_its_probability():
    model = fastrnn.train("abc" * 50, steps=30, hidden_size=8, rng=0)
    known, with_unknown = Split("", "abcabc"), Split("", "abcabc?")
    assert known.nats(model) == pytest.approx(model.surprisal("abcabc").mean() * math.log(2))
    total = 6 * known.nats(model) - math.log(UNKNOWN)
    assert 7 * with_unknown.nats(model) == pytest.approx(total)


def test_the_end_of_a_document_is_a_symbol():
    model = fastrnn.train(["ab", "abc"] * 20, steps=30, hidden_size=8, rng=0)
    texts = ["ab", "abc", ""]
    assert Split([], texts).nats(model) * 8 == pytest.approx(-sum(model.log_prob(t, end=True) for t in texts))


def test_xz_knows_the_training_part():
    text = "".join(map(chr, np.random.default_rng(0).integers(97, 123, 5000)))
    assert Split(text, text[:2000]).xz_bits < 0.3
    assert Split(text[:2500], text[2500:]).xz_bits > 4


@pytest.mark.skipif("FASTRNN_DATA" not in os.environ, reason="FASTRNN_DATA names no folder of texts")
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("tinyshakespeare", (1_003_854, 111_540)),
        ("war-and-peace", (2_932_421, 325_825)),
        ("names", (25_626, 3_203)),
    ],
)
def test_the_published_splits(name: str, sizes: tuple[int, int]):
    split = TEXTS[name]()
    assert (len(split.training), len(split.scored)) == sizes


def test_the_worst_seed_counts():
    (first, *_) = STATED
    goal = first.nats
    assert goal is not None
    met = [result(first.name, goal - 0.1, seed) for seed in range(3)]
    assert "| met | 3 |" in report.stated(met)
    assert "| **not met** | 4 |" in report.stated([*met, result(first.name, goal + 0.01, 3)])


def test_the_last_result_of_a_seed_counts_and_says_how_it_was_limited():
    (first, *_) = STATED
    earlier, later = result(first.name, 9.0), result(first.name, 1.0) | {"by_updates": True}
    assert report.latest([earlier, result("a job of the past", 9.0), later]) == [later]
    text = report.markdown([earlier, later])
    assert "| 1.0000 |" in text
    assert "| 77* |" in text
    assert "A star marks" in text
    assert "77*" not in report.markdown([later, earlier])
    assert "A star marks" not in report.markdown([later, earlier])


def test_every_machine_is_named():
    (first, second, *_) = STATED
    other = {"machine": {"processor": "another", "cores": 2, "gflops": 50.0}}
    text = report.markdown([result(first.name, 1.0), result(second.name, 1.0) | other])
    assert "On a processor (2 threads, 100 GFLOP/s" in text
    assert "; another (2 threads, 50 GFLOP/s" in text


@pytest.mark.parametrize(
    ("rule", "hand", "verdict"),
    [(1.0, 1.0, "met"), (1.06, 1.0, "**not met**"), (1.40, 1.38, "**not met**"), (1.5, 1.48, "met")],
)
def test_the_rule_is_near_what_is_found_by_hand_and_beats_xz_where_that_does(
    rule: float, hand: float, verdict: str
):
    """The 2 bits that xz needs are 1.386 nats."""
    job = CHOSEN[0].name
    assert f"| {verdict} |" in report.chosen([result(job, rule), result(job, hand, kind="by hand")])


def test_jobs_with_counts_have_a_table_of_their_own():
    job = COUNTED[0].name
    worst = result(job, 1.6) | {"fixed": 1.48, "adapted": 1.41}
    rows = [worst, result(job, 1.5, seed=1) | {"fixed": 1.5, "adapted": 1.3}, result(STATED[0].name, 1.0)]
    text = report.with_counts(rows)
    assert (
        "| shakespeare-5s | 1.6000 | 1.5000 (≤ 1.49: **not met**) | 1.4100 (≤ 1.4: **not met**) | 2 |" in text
    )
    assert "shakespeare-5s" in report.markdown(rows)
    assert "1.4100" not in report.markdown(rows)


def test_a_job_with_counts_is_scored_in_three_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path))
    monkeypatch.setattr(program, "gflops_of_core", lambda _: 2_500.0)
    monkeypatch.setitem(TEXTS, "tinyshakespeare", lambda: Split("hello world " * 300, "hello there " * 20))
    output = tmp_path / "quality.jsonl"
    program.main(["--jobs", "shakespeare-5s-counts", "--seeds", "0", "--output", str(output)])
    (found,) = map(json.loads, output.read_text().splitlines())
    assert found["adapted"] < found["fixed"] < found["nats"]


def test_every_job_has_a_text():
    assert {job.text for job in JOBS.values()} <= set(TEXTS)


def test_results_are_appended_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path))
    monkeypatch.setattr(program, "gflops_of_core", lambda _: 2_500.0)  # 5 s become half a second
    monkeypatch.setitem(TEXTS, "tinyshakespeare", lambda: Split("hello world " * 300, "hello world"))
    output = tmp_path / "quality.jsonl"
    for seed in ("0", "1"):
        program.main(["--jobs", "shakespeare-5s", "--seeds", seed, "--output", str(output)])
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [one["seed"] for one in found] == [0, 1]
    assert all(one["nats"] < math.log(8) and one["updates"] > 0 for one in found)
    assert not any(one["by_updates"] for one in found)
    assert "| shakespeare-5s | ≤ 1.88 |" in capsys.readouterr().out


def test_as_many_updates_as_the_time_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FASTRNN_DATA", str(tmp_path))
    monkeypatch.setattr(program, "gflops_of_core", lambda _: 2_500.0)
    monkeypatch.setattr(run, "TIMED_SECONDS", 0.1)
    monkeypatch.setattr(
        run.FastestUpdates, "after_updates", lambda speed, *_: setattr(speed, "seconds", 0.01)
    )
    monkeypatch.setitem(TEXTS, "tinyshakespeare", lambda: Split("hello world " * 300, "hello world"))
    output = tmp_path / "quality.jsonl"
    program.main(["--jobs", "shakespeare-5s", "--seeds", "0", "--by-updates", "--output", str(output)])
    (found,) = map(json.loads, output.read_text().splitlines())
    assert found["by_updates"]
    assert found["updates"] == int(found["limit"] * run.FOR_UPDATES / 0.01)


def test_an_update_is_timed_over_several_native_calls(monkeypatch: pytest.MonkeyPatch):
    """A call that is told of in two parts, the second one at once, makes no update faster."""
    now = iter([0.0, 0.4, 0.4, 0.9, 0.9, 6.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    speed = run.FastestUpdates()
    speed.before_training(None)  # type: ignore[arg-type]
    some = SimpleNamespace(losses=[0.0] * 10)
    ended = [speed.after_updates(None, some) for _ in range(5)]  # type: ignore[arg-type]
    assert speed.seconds == pytest.approx(0.9 / 30)
    assert ended == [False, False, False, False, True]
