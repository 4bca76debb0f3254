# `make demo` and `make test` need Python 3.11 or newer, make and a package index; everything else they install into .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TORCH  := $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help env demo test test-slow spelling test-colab check lint types lessons lab page bench clean

COLAB := .venv-colab

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | sort

env: $(STAMP)  ## make the environment where it is missing

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python {v[0]}.{v[1]} found, 3.11 or newer needed: run make PYTHON=/path/to/python3.11")'
	@$(PYTHON) -c 'import shutil, sys; g = shutil.disk_usage(".").free / 2**30; sys.exit(g < 4 and f"{g:.1f} GiB free here, 4 GiB needed for torch and the rest: free some disk and run make again")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: on Debian or Ubuntu, apt install python3-venv, then run make again"; exit 1; }
	@echo "[1/3] torch ($(TORCH)): first, so that nothing else pulls in another build"
	@$(BIN)/pip install $(TORCH) || { echo "Could not install $(TORCH): is the package index reachable? Run make again; it goes on where it stopped."; exit 1; }
	@echo "[2/3] the toolkit, the grader and the development tools (about 2 minutes)"
	@$(BIN)/pip install -c constraints.txt -e '.[grader,dev]' || { echo "Could not install the packages: is the package index reachable? Run make again; it goes on where it stopped."; exit 1; }
	@echo "[3/3] the offline base model (93 MB, converted once)"
	@$(BIN)/python -m toolkit base-model
	@touch $@

demo: env  ## train LoRA on a real model, then grade a class of twelve
	@$(BIN)/python -m lessons.demo
	@$(BIN)/python -m autograder demo

test: env check  ## lint, types, generated notebooks, tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: env  ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow

spelling: env  ## spelling of what students read; needs Debian's hunspell and hunspell-pt-br
	@$(BIN)/python -m pytest -m debian

test-colab:  ## the toolkit's tests under the versions that Colab ships, in an environment of their own
	@test -x $(COLAB)/bin/python || $(PYTHON) -m venv $(COLAB)
	@$(COLAB)/bin/pip install $(TORCH)
	@$(COLAB)/bin/pip install -c constraints-colab.txt -e . torchao hypothesis pytest pytest-timeout playwright
	@$(COLAB)/bin/python -m pytest tests/toolkit

check: env lint types  ## what fails before any test runs
	@$(BIN)/python -m autograder.publish --check

lint: env
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: env
	@$(BIN)/mypy

lessons: env  ## write the student notebooks from the percent sources
	@$(BIN)/python -m autograder.publish

lab: env  ## open JupyterLab on the lessons
	@$(BIN)/jupyter lab lessons

page: env  ## build the calculator as a web page under build/page
	@$(BIN)/python -m toolkit page build/page

bench: env  ## accuracy and speed against named peers; each prints a table (vram_measure needs a GPU, vram_peers its own environment)
	@for file in $(filter-out %vram_peers.py %vram_measure.py,$(wildcard benchmarks/*_*.py)); do echo "== $$file"; $(BIN)/python -m benchmarks.$$(basename $$file .py) || exit 1; done

clean:  ## remove what the targets made, the environment too
	rm -rf $(VENV) $(COLAB) build dist demo .pytest_cache .mypy_cache .ruff_cache
