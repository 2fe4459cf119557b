# make demo: set up, then compare the paper's four losses on real images and write a report
# make test: set up, then run all checks and tests
# make docs: build the documentation's site into site/, with warnings as errors
# The environment lies in .venv and is made from constraints.txt, which pins every version.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := src/adma/torch/kernels/native

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint docs bench gpu soak fuzz audit clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' $(MAKEFILE_LIST)

# torch first and by its exact version: a looser request may bring gigabytes of GPU libraries
$(VENV)/.ready: pyproject.toml constraints.txt hatch_build.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "adma needs Python 3.10 or newer, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# the CPU kernel again when its sources have changed; without a compiler PyTorch does its work
$(VENV)/.native: $(VENV)/.ready $(wildcard $(NATIVE)/*.cpp $(NATIVE)/*.hpp) $(NATIVE)/build.py
	$(BIN)/python $(NATIVE)/build.py || true
	touch $@

setup: $(VENV)/.native

demo: setup
	$(BIN)/adma compare digits --out adma-runs/demo --resume

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# files of tests side by side, on as many cores as one gigabyte and a half of memory each is no burden for; in the files'
# order, in which those of few but long tests come first
JOBS ?= $(shell $(PYTHON) -c 'import os; print(min(4, os.cpu_count() or 1))')
THREADS := $(shell $(PYTHON) -c 'import os; print(max(1, (os.cpu_count() or 1) // $(JOBS)))')

test: lint
	OMP_NUM_THREADS=$(THREADS) $(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# make bench: speed on the CPU against torch and what else is installed; tables and a plot in benchmarks/results
bench: setup
	$(BIN)/python benchmarks/cross_entropy.py

# make gpu: all that wants a GPU, tests and benchmarks, in a quarter of an hour; tables in benchmarks/results
gpu: setup
	$(BIN)/python benchmarks/gpu.py

# make soak: kill real commands at 60 random instants and compare what they end with
soak: setup
	ADMA_SOAK=30 $(BIN)/pytest -s tests/bench/test_kill.py --timeout 7200

# make fuzz: every property of files and specs under atheris, for ADMA_FUZZ seconds each
fuzz: setup
	ADMA_FUZZ=$${ADMA_FUZZ:-60} $(BIN)/pytest tests/test_fuzz_one.py --timeout 7200

# make audit: known vulnerabilities of the versions in constraints.txt; asks PyPI
audit: setup
	$(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/pip install --quiet pip-audit
	$(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip -r constraints.txt

clean:
	rm -f $(NATIVE)/libadma_native*
	rm -rf $(VENV) adma-runs dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
