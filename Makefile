PYTHON ?= python3
BIN := .venv/bin
SOURCES := pyproject.toml $(wildcard csrc/*)

# Calls of each kernel in either precision, for `make sanitize`.
CASES ?= 40

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-all test-isa test-oldest lint sanitize valgrind neon faults package contract bench
.PHONY: compare instructions claims claim-NAME clean

help: ## list these targets
	@awk -F ':[^#]*## ' '/^[a-zNAME-]*:.*## / { printf "make %-12s  %s\n", $$1, $$2 }' Makefile

demo: .venv/installed ## install, train for twenty seconds on a text that is already here, and show the result
	$(BIN)/fastrnn demo

# ---- Tests ---------------------------------------------------------------------------------------------

test: .venv/installed-for-development ## install with the test extra and run the tests, except the slow ones
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# One test at a time goes to a process that is free: the first few are most of the time.
test-slow: .venv/installed-for-development ## run the slow tests
	$(BIN)/python -m pytest -m slow --numprocesses 2 --dist load --maxschedchunk 1 $(OPTIONS)

test-all: test test-slow ## run all tests

test-isa: .venv/installed-for-development ## run the tests of the kernels for each instruction set of the processor
	$(BIN)/python tests/tools/isa.py

# The oldest versions are installed into an environment of their own.
build/oldest/installed: tests/tools/oldest.py $(SOURCES)
	rm -rf build/oldest
	$(PYTHON) -m venv build/oldest
	$(PYTHON) tests/tools/oldest.py test > build/oldest/constraints.txt
	build/oldest/bin/python -m pip install --quiet --constraint build/oldest/constraints.txt \
	  --config-settings build-dir=build/oldest/cmake --editable '.[test]'
	touch $@

OLDEST := backends/test_backends.py backends/test_contract.py backends/test_kernel_cache.py network/test_cells.py \
  model/test_serialization.py model/test_model.py training/test_training.py cli/test_cli.py test_documents.py

test-oldest: build/oldest/installed ## run a selection of the tests with the oldest packages that are allowed
	cd tests && FASTRNN_DATA= ../build/oldest/bin/python -m pytest --quiet --numprocesses 2 --dist loadfile $(OLDEST)

# ---- Checks ---------------------------------------------------------------------------------------------

lint: .venv/installed-for-development ## run ruff, mypy --strict and import-linter; compile C with warnings as errors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	for bits in 32 64; do \
	  $(CC) -std=c11 -fsyntax-only -Wall -Wextra -Wconversion -Wpedantic -Werror -DFR_BITS=$$bits csrc/*.c || exit 1; \
	done

# These builds are made beside the installed package, which they do not change.
build/sanitized build/watched build/profiled: .venv/installed-for-development $(SOURCES)
	rm -rf $@
	$(BIN)/python -m pip install --quiet --no-deps --target $@ --config-settings build-dir=$@-cmake \
	  --config-settings install.strip=false $(CMAKE_OPTIONS) .

build/sanitized: CMAKE_OPTIONS = --config-settings cmake.define.FASTRNN_SANITIZE=ON
build/watched: CMAKE_OPTIONS = --config-settings cmake.define.CMAKE_C_FLAGS=-g
# Functions that are called once keep their names, and frame pointers tell who called them.
build/profiled: CMAKE_OPTIONS = --config-settings cmake.define.CMAKE_C_FLAGS="-g -fno-omit-frame-pointer \
  -fno-optimize-sibling-calls -fno-inline-functions -fno-inline-functions-called-once \
  -fno-inline-small-functions --param=max-inline-insns-single=100"

# The tools draw their arguments as tests/backends/test_kernels.py does.
sanitize valgrind neon: export PYTHONPATH = tests:tests/backends

sanitize: build/sanitized ## call every kernel at odd sizes, in C under sanitizers; CASES=10 is quicker
	LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
	  $(BIN)/python tests/tools/sanitize.py --cases $(CASES) build/sanitized/fastrnn/backends
	$(BIN)/python tests/tools/sanitize.py --cases $(CASES) numba

# valgrind 3.19 knows no AVX-512.
valgrind: build/watched ## call every kernel at odd sizes under valgrind
	rm -f build/watched/fastrnn/backends/_c_v4.*
	PYTHONMALLOC=malloc OPENBLAS_CORETYPE=Haswell \
	  valgrind --error-exitcode=1 --suppressions=tests/tools/valgrind.supp \
	  $(BIN)/python tests/tools/sanitize.py --valgrind --cases 10 build/watched/fastrnn/backends

neon: .venv/installed-for-development ## compare bits with aarch64's under qemu-aarch64, and count its tile's instructions
	$(BIN)/python tests/tools/neon.py

faults: .venv/installed-for-development ## kill trainings 200 times, let writes fail, resume, and compare the models
	$(BIN)/python tests/tools/faults.py $(OPTIONS)

package: .venv/installed-for-development ## build sdist and wheels, with and without a C compiler, and try each
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python tests/tools/package.py

contract: ## write the Python modules that repeat csrc/fastrnn.h, after a change of the header
	$(PYTHON) csrc/generate_contract.py

# ---- Measurements ---------------------------------------------------------------------------------------

bench: .venv/installed-for-development ## run the benchmarks of the three backends
	$(BIN)/python -m pytest benchmarks --benchmark-only

compare: .venv/installed-for-development ## measure beside NumPy, PyTorch, JAX and ONNX Runtime, for half an hour
	$(BIN)/python -m pip install --quiet --editable '.[peers]'
	$(BIN)/python -m benchmarks.compare

instructions: .venv/installed-for-development ## count the instructions of each job; OPTIONS=--write keeps them
	$(BIN)/python -m benchmarks.instructions $(OPTIONS)

claims: .venv/installed-for-development ## check every claim of the README; needs FASTRNN_DATA
	$(BIN)/python -m benchmarks.claims

claim-NAME: ## check one of them; as it stands, with NAME, it lists them
	$(BIN)/python -m benchmarks.claims --list

claim-%: .venv/installed-for-development
	$(BIN)/python -m benchmarks.claims $* $(OPTIONS)

# ---- Environments ---------------------------------------------------------------------------------------

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/installed: .venv/bin/python $(SOURCES) $(shell find fastrnn -name '*.py')
	rm -f .venv/installed*  # one install replaces the other
	$(BIN)/python -m pip install --quiet .
	touch $@

.venv/installed-for-development: .venv/bin/python $(SOURCES)
	rm -f .venv/installed*
	$(BIN)/python -m pip install --quiet --editable '.[test,libraries,lint,bench]'
	touch $@

clean: ## remove environments and builds
	rm -rf .venv build dist
