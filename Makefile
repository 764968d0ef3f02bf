# make demo   install, train for twenty seconds on a text that is already here, and show what came of it
# make test   install with the test extra and run the tests, but for the slow ones, in two processes
# make test-all  all tests
# make test-isa  those of kernels, bits, denormals and cells, for each instruction set of the processor
# make test-oldest  a selection of the tests with the oldest packages that pyproject.toml allows
# make lint   ruff, mypy --strict, import-linter, and the C sources with warnings as errors
# make bench  the benchmarks of the three backends
# make compare  them beside NumPy, PyTorch, JAX and ONNX Runtime, which it installs; about half an hour
# make quality  train on a real text and require the loss that the README tells; needs FASTRNN_DATA
# make char-rnn  train as char-rnn does and require its users' validation losses; needs FASTRNN_DATA
# make scale  a long file costs what a short text does, per character, and no more memory; needs FASTRNN_DATA
# make memory  GRU and LSTM remember ten symbols over a hundred steps
# make denormals  a saturated or dead network trains as fast as a healthy one
# make sanitize  every kernel at odd sizes, in C under AddressSanitizer and UndefinedBehaviorSanitizer
# make valgrind  the same under valgrind
# make package  build the source distribution and, from it, wheels with and without a C compiler; try each

PYTHON ?= python3
BIN := .venv/bin
SOURCES := pyproject.toml $(wildcard csrc/*)

.PHONY: demo test test-all test-isa test-oldest lint bench compare quality char-rnn scale memory denormals
.PHONY: sanitize valgrind package clean

demo: .venv/installed
	$(BIN)/fastrnn demo

test: .venv/installed-for-development
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

build/oldest/installed: tests/oldest.py $(SOURCES)
	rm -rf build/oldest
	$(PYTHON) -m venv build/oldest
	$(PYTHON) tests/oldest.py test > build/oldest/constraints.txt
	build/oldest/bin/python -m pip install --quiet --constraint build/oldest/constraints.txt \
	  --config-settings build-dir=build/oldest/cmake --editable '.[test]'
	touch $@

test-oldest: build/oldest/installed
	cd tests && FASTRNN_DATA= ../build/oldest/bin/python -m pytest --quiet test_backends.py test_checkpoint.py test_cli.py \
	  test_contract.py test_kernel_cache.py test_model.py test_training.py test_cells.py test_documents.py

test-all: test
	$(BIN)/python -m pytest -m slow

test-isa: .venv/installed-for-development
	$(BIN)/python tests/isa.py

lint: .venv/installed-for-development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	for bits in 32 64; do \
	  $(CC) -std=c11 -fsyntax-only -Wall -Wextra -Wconversion -Wpedantic -Werror -DFR_BITS=$$bits csrc/*.c || exit 1; \
	done

bench: .venv/installed-for-development
	$(BIN)/python -m pytest benchmarks --benchmark-only

compare: .venv/installed-for-development
	$(BIN)/python -m pip install --quiet --editable '.[peers]'
	$(BIN)/python -m benchmarks.compare

quality: .venv/installed-for-development
	$(BIN)/python tests/quality.py

char-rnn: .venv/installed-for-development
	$(BIN)/python tests/char_rnn.py

scale: .venv/installed-for-development
	$(BIN)/python tests/scale.py

memory: .venv/installed-for-development
	$(BIN)/python tests/long_memory.py

denormals: .venv/installed-for-development
	$(BIN)/python tests/denormals.py

# beside the installed package, which they leave alone
build/sanitized build/watched: .venv/installed-for-development $(SOURCES)
	rm -rf $@
	$(BIN)/python -m pip install --quiet --no-deps --target $@ --config-settings build-dir=$@-cmake \
	  --config-settings install.strip=false $(CMAKE_OPTIONS) .

build/sanitized: CMAKE_OPTIONS = --config-settings cmake.define.FASTRNN_SANITIZE=ON
build/watched: CMAKE_OPTIONS = --config-settings cmake.define.CMAKE_C_FLAGS=-g

sanitize: build/sanitized
	LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
	  $(BIN)/python tests/sanitize.py build/sanitized/fastrnn/backends
	$(BIN)/python tests/sanitize.py numba

# valgrind 3.19 knows no AVX-512
valgrind: build/watched
	rm -f build/watched/fastrnn/backends/_c_v4.*
	PYTHONMALLOC=malloc OPENBLAS_CORETYPE=Haswell valgrind --error-exitcode=1 --suppressions=tests/valgrind.supp \
	  $(BIN)/python tests/sanitize.py --valgrind --cases 10 build/watched/fastrnn/backends

package: .venv/installed-for-development
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python tests/package.py

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/installed: .venv/bin/python $(SOURCES) $(wildcard fastrnn/*.py fastrnn/backends/*.py)
	rm -f .venv/installed*  # one install replaces the other
	$(BIN)/python -m pip install --quiet .
	touch $@

.venv/installed-for-development: .venv/bin/python $(SOURCES)
	rm -f .venv/installed*
	$(BIN)/python -m pip install --quiet --editable '.[test,lint,bench]'
	touch $@

clean:
	rm -rf .venv build dist
