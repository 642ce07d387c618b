# Everything a person needs: `make demo` and `make test` do all the set-up themselves.
SHELL := /bin/bash
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PIP_ARGS ?=
STAMP := $(VENV)/stamp-$(shell cat pyproject.toml constraints.txt | (sha256sum 2>/dev/null || shasum -a 256) | cut -c1-16)
export FLWR_TELEMETRY_ENABLED := 0
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help install demo test test-slow lint audit docs look bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

install: $(STAMP)  ## make .venv and install (what demo and test do first)

$(STAMP):
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	  { echo "pettoolkit needs Python 3.11 (found: $$("$(PYTHON)" --version 2>&1 || echo none)); install it, or name it: make demo PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "installing into $(VENV) (a few minutes, once)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@rm -f $(VENV)/stamp-* && touch $@

demo: $(STAMP)  ## five simulated hospitals, five technologies, one table
	@$(BIN)/pettoolkit run experiments/quickstart.yaml
	@if [ -t 0 ] && [ -t 1 ]; then echo; exec $(BIN)/pettoolkit ui; fi  # in a terminal, end with a link that works

test: $(STAMP)  ## the tests, under 10 minutes
	@$(BIN)/python -m pytest -m "not slow"

test-slow: $(STAMP)  ## deployment, clusters, labs and kill -9, under 35 minutes
	@$(BIN)/python -m pytest -m slow

lint: $(STAMP)  ## ruff, mypy strict, import rules, no secrets in what git tracks
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy pettoolkit
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python tools/check_secrets.py

audit: $(STAMP)  ## known weaknesses of the installed packages (asks a database on the network)
	@test -x $(BIN)/pip-audit || $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[audit]'
	@$(BIN)/pip-audit --skip-editable --progress-spinner off

docs: $(STAMP)  ## the documentation as pages, in site/
	@$(BIN)/python -c 'import material' 2>/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict && echo "site/index.html"

look: $(STAMP)  ## screenshots of the MLflow page and the standard reports into look/ (needs Chromium)
	@$(BIN)/python docs/look.py

bench: $(STAMP)  ## all benchmarks, as tables
	@for f in benchmarks/*.py; do echo "== $$f"; $(BIN)/python $$f || exit 1; done

clean:  ## remove .venv and caches, keep results
	@rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .pytest_cache
