# Needs python3 (3.11 or newer) and make, nothing else. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NAME ?= gateway

.PHONY: help install demo demo-drift up test test-all check bench lock map

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(STAMP) ## put the locked packages and headgate into .venv

demo: $(STAMP) ## run the main job on real servers, models and traffic (three minutes)
	@$(BIN)/headgate demo $(ARGS)

demo-drift: $(STAMP) ## see the world move: found, retrained, released, and a poisoned version taken back (three minutes)
	@$(BIN)/headgate demo --story drift $(ARGS)

up: $(STAMP) ## start the embedded stack for your own models; Ctrl-C ends it
	@$(BIN)/headgate up $(ARGS)

# Two at a time, each file in one process: every process has servers of its own, and most tests wait for them.
test: $(STAMP) ## run the tests, but not the slow ones
	@$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile $(ARGS)

test-all: $(STAMP) ## run every test
	@$(BIN)/python -m pytest $(ARGS)

check: $(STAMP) ## format, lint, types and import directions
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python docs/map.py --check

map: $(STAMP) ## write the map of the code into ARCHITECTURE.md
	@$(BIN)/python docs/map.py

bench: $(STAMP) ## run benchmarks/NAME.py: make bench NAME=gateway, compiled, predlog, follow, loading, sweep, verdicts, nab, drift, elec2
	@$(BIN)/python -m benchmarks.$(NAME) $(ARGS)

lock: $(STAMP) ## resolve pyproject.toml into requirements.lock: every hash, no index address
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --extra dev \
	    --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml
	@! grep -nE '://|--(extra-)?index-url|--find-links' requirements.lock

# uv, itself pinned in the lock, installs in half the time of pip, which takes over where uv can't reach an index.
# Byte-compiled here, so that the first start of four servers does not pay for it.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "headgate needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1 | head -n 1)." \
	         "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "installing into $(VENV) (once, about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/# via/p' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock \
	    || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)
