# The targets that people and CI call. `make demo` needs nothing but Debian and Python 3.11.
# VENV=DIR uses another environment; PYTHON=... another interpreter; PIP_ARGS=... is passed to pip.
VENV ?= .venv
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3))
PIP_ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test checks format coverage bench chaos

help: ## This page
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(READY) ## Make the environment: Debian libraries, .venv, pinned packages

# Redone only when the pins or the dependencies change; the stamp is written last.
$(READY): constraints.txt pyproject.toml infra/debian.sh
	bash infra/debian.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt --upgrade pip
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) torch==2.13.0
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	touch $@

demo: $(READY) ## The whole line, from rendered films to three served videos and a report
	$(BIN)/skyloom demo

test: $(READY) ## Every test, the whole line at a tiny size included
	bash infra/debian.sh postgresql
	$(BIN)/python -m pytest -n 2 --dist loadfile

checks: $(READY) ## Style, format, types, import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_architecture.py

format: $(READY) ## Mend style and format in place
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(READY) ## Which lines the tests of this process reach
	$(BIN)/coverage run -m pytest -q
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

bench: $(READY) ## Every benchmark; rewrites docs/benchmarks.md
	$(BIN)/skyloom bench

chaos: $(READY) ## Kill stages with signal 9 in the middle; the result must be byte-identical
	bash infra/debian.sh chromium iproute2 postgresql
	command -v npm >/dev/null || bash infra/debian.sh nodejs npm
	$(BIN)/python -m pytest -q -m chaos
	SKYLOOM_TEST_DATABASE=postgresql $(BIN)/python -m pytest -q tests/serving
