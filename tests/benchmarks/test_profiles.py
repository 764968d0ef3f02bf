"""The tools that count instructions and attribute time: what they read and how they judge."""

import json
import subprocess
import sys
from collections import Counter

import pytest
from conftest import require_backend

from benchmarks import callgrind, instructions, one_job, phases
from benchmarks.workloads import Training

CALLGRIND = """\
version: 1
positions: line
events: Ir

ob=(1) /site/_c_v3.abi3.so
fl=(1) ???
fn=(1) 0x10
0 100
+3 20
cob=(2) /lib/libc.so.6
cfi=(2) memset.c
cfn=(2) memset
calls=3 0
0 5000
* 7
ob=(2)
fl=(2)
fn=(2)
12 5000
fn=(3) free
-2 9
ob=(1)
fn=(1)
0 1
totals: 5137
"""


def test_instructions_are_those_of_the_object_and_the_function():
    costs = callgrind.costs(CALLGRIND.splitlines(keepends=True))
    assert costs == {
        ("/site/_c_v3.abi3.so", "0x10"): 128,
        ("/lib/libc.so.6", "memset"): 5000,
        ("/lib/libc.so.6", "free"): 9,
    }
    assert instructions.of_module(costs) == 128


def test_more_instructions_by_the_same_compiler_fail():
    grown, same, new = instructions.judge({"a": 104.0, "b": 102.0, "c": 5.0}, {"a": 100.0, "b": 100.0})
    assert "MORE" in grown.says()
    assert "MORE" not in same.says() + new.says()
    assert instructions.fails([grown, same], "GCC 12", "GCC 12")
    assert not instructions.fails([grown], "GCC 13", "GCC 12")
    assert not instructions.fails([same, new], "GCC 12", "GCC 12")


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """The tool, with its figures in a file of the test and made-up instructions."""
    monkeypatch.setattr(instructions, "FIGURES", tmp_path / "instructions.json")
    monkeypatch.setattr(callgrind, "find", lambda: "valgrind")

    def run(compiler, count, *options):
        monkeypatch.setattr(instructions, "compiler_of", lambda *_: compiler)
        monkeypatch.setattr(instructions, "count", lambda *_: count)
        return instructions.main(["--jobs", "seed", *options])

    return run


def test_the_command_writes_figures_and_compares(counted, capsys):
    assert counted("GCC 12", 100.0, "--write") == 0
    assert json.loads(instructions.FIGURES.read_text()) == {"compiler": "GCC 12", "jobs": {"seed": 100.0}}
    assert counted("GCC 12", 102.9) == 0
    assert counted("GCC 12", 103.1) == 1
    assert "MORE" in capsys.readouterr().out
    assert counted("GCC 13", 200.0) == 0
    assert "another compiler's" in capsys.readouterr().out


def test_a_machine_without_valgrind_is_told(monkeypatch):
    monkeypatch.setattr(callgrind.shutil, "which", lambda *_: None)
    with pytest.raises(SystemExit, match="valgrind is not installed"):
        instructions.main([])


def test_every_job_has_a_figure():
    assert json.loads(instructions.FIGURES.read_text())["jobs"].keys() == one_job.JOBS.keys()


@pytest.mark.parametrize("job", one_job.JOBS.values(), ids=lambda job: job.name)
def test_jobs_are_shortened_to_few_operations(job):
    assert one_job.shortened(job, job.operations) == job
    short = one_job.shortened(job, 200_000_000)
    steps = short.T * (short.windows if isinstance(short, Training) else 1)
    assert short.operations <= 200_000_000 or steps == one_job.MIN_STEPS


PERF = """\
\t 10 fr_tile_of_rows (/build/_c_v3.so)
\t 20 run_head.isra.0 (/build/_c_v3.so)
\t 30 gradients (/build/_c_v3.so)
\t 40 fr_train_windows_f32 (/build/_c_v3.so)
\t 50 _cffi_f_fr_train_windows_f32 (/build/_c_v3.so)
\t 60 cfunction_call (/lib/libpython3.11.so)

\t 10 clear_page_erms ([kernel.kallsyms])
\t 20 fr_adagrad_update_f32 (/build/_c_v3.so)
\t 25 update.isra.0 (/build/_c_v3.so)
\t 40 fr_train_windows_f32 (/build/_c_v3.so)
\t 50 _cffi_f_fr_train_windows_f32 (/build/_c_v3.so)

\t 60 gc_collect_main (/lib/libpython3.11.so)
"""


def test_samples_belong_to_phases():
    found = phases.attributed(phases.samples(PERF.splitlines()))
    assert found == {"run_head": Counter(fr_tile_of_rows=1), "update": Counter(clear_page_erms=1)}


def test_the_table_has_shares_and_microseconds():
    text = phases.table({"a": Counter(x=300, y=99, z=1), "b": Counter(b=600)}, 50.0)
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["b", "60.0", "30.000"], ["a", "40.0", "20.000"], ["x", "30.0", "15.000"], ["y", "9.9", "4.950"],
        ["others", "0.1", "0.050"], ["others", "0.0", "0.000"], ["all", "100.0", "50.000"],
    ]  # fmt: skip


def test_a_job_of_the_c_backend_runs_alone():
    require_backend("c")
    command = [sys.executable, "-m", "benchmarks.one_job", "seed", "--operations", "1000000"]
    done = subprocess.run(command, cwd=callgrind.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["compiler"].split()[0] in {"GCC", "Clang", "Debian", "Apple"}
    assert answer["characters"] == one_job.shortened(one_job.JOBS["seed"], 1_000_000).characters
