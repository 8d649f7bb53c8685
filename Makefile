# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# Data folders are searched in order; shared/data beside the checkout is used where it is there.
export NEURARIUM_DATA ?= $(wildcard $(abspath ../shared/data))
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench site results clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: .venv/ready  ## make .venv with everything that demo, tests and lint need

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev,distributed]"
	@touch $@

demo: setup  ## the main job: re-test elastic weight consolidation on real MNIST (its games wait for `make results`), and write the site
	$(BIN)/neurarium run ewc --arm sgd,l2,ewc,joint,overlap-8,overlap-26,noise
	$(BIN)/neurarium report

test: setup  ## the whole test suite on two cores
	$(BIN)/python -m pytest -n 2 -q

lint: setup  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## every benchmark, ours beside its peer (installed where it can be had); writes docs/benchmarks.md
	$(BIN)/python scripts/bench.py --peers

site: setup  ## write the static site
	$(BIN)/neurarium report site

results: setup  ## run every study at the default scale and save its verdicts
	$(BIN)/neurarium run --all --save

clean:  ## remove the environment and caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache site
