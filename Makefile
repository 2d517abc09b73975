# The two commands of the README, `make quickstart` and `make test`, and what they stand on.
# Every target makes its own environment (.venv) when there is none.

# Set on the command line (make quickstart OUT=elsewhere); the shell's variables of these names are not meant.
PYTHON = python3
VENV = .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

OUT = quickstart
DATA := datasets/quickstart

PEERS := .venv-peers
DOCS := .venv-docs
SPHINX := $(DOCS)/bin/python -m sphinx -W --keep-going -q -d docs/_build/doctrees

.PHONY: help quickstart test test-peers docs docs-links lint clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"mlip needs Python >= 3.11, {sys.executable} is {v.major}.{v.minor}: make PYTHON=python3.12")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

quickstart: $(INSTALLED)  ## train on the bundled surrogate paths, relax held-out crystals, print the tables (OUT=quickstart)
	@mkdir -p $(OUT) && rm -rf $(OUT)/run $(OUT)/benchmark
	$(BIN)/mlip data build $(DATA) --out $(OUT)/store.h5 --functional surrogate-CHGNet-0.3.0 --subsample 0.05 --per-atom --outliers pbesol --split 0.85,0.05,0.10 --force
	$(BIN)/mlip train recipes/quickstart.yaml data.store=$(OUT)/store.h5 out=$(OUT)/run
	$(BIN)/mlip evaluate $(OUT)/run/potential.safetensors $(OUT)/store.h5 --split test
	$(BIN)/mlip benchmark relaxation $(OUT)/run/potential.safetensors $(OUT)/store.h5 --split test --out $(OUT)/benchmark

# OpenBLAS's threads spin while two test processes share two cores; ASE's matrix functions then take a second each.
# Tests compile much and compute little: machine code that is not optimized takes a third off the whole. Some wait for
# servers, workers and processes that die: a third process computes meanwhile.
test: $(INSTALLED)  ## the fast tests, three at a time
	OPENBLAS_NUM_THREADS=1 XLA_FLAGS="$$XLA_FLAGS --xla_backend_optimization_level=0" $(BIN)/python -m pytest --numprocesses 3 --dist worksteal

$(PEERS)/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --editable '.[dev,convert]' matgl
	@touch $@

test-peers: $(PEERS)/.installed  ## mace-torch's and matgl's networks against ours, random weights both ways (minutes, gigabytes)
	OPENBLAS_NUM_THREADS=1 $(PEERS)/bin/python -m pytest tests/convert

$(DOCS)/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --editable '.[docs]'
	@touch $@

# INTERSPHINX=1 links names of other projects, whose inventories it asks the network for.
export INTERSPHINX
docs: $(DOCS)/.installed  ## these pages, tutorials executed and doctests run (minutes the first time, then cached)
	OPENBLAS_NUM_THREADS=1 $(SPHINX) -b html docs docs/_build/html
	$(SPHINX) -b doctest docs docs/_build/doctest
	@echo docs/_build/html/index.html

docs-links: $(DOCS)/.installed  ## ask the network whether every link of the pages leads somewhere
	$(SPHINX) -b linkcheck docs docs/_build/linkcheck

lint: $(INSTALLED)  ## ruff, the import contract, and the types of the public names
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

clean:  ## remove the environment and what quickstart made
	rm -rf .venv $(PEERS) $(DOCS) quickstart docs/_build docs/generated
