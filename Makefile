# From a fresh clone: `make demo` (the whole line on the embedded sample), `make test`.
SHELL := /bin/bash
PYTHON ?= python3.11
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMP := $(VENV)/.installed
export PATH := $(BIN):$(PATH)
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help setup demo run test check format lock docs clean

help:  ## list what can be typed here
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "found no $(PYTHON); expected Python 3.11, 3.12 or 3.13; set PYTHON=/path/to/python"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	@touch $(STAMP)

setup: $(STAMP)  ## create .venv and install the pinned set

demo: setup  ## run the whole line on the embedded sample and print the results
	@python -m flows.demo

run: setup  ## PROFILE=NAME: the whole line for a dataset brought in by flows.ingest
	@python -m flows.profile $(PROFILE)

test: setup  ## run the tests
	@python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: setup  ## ruff, mypy --strict, import-linter, dvc.yaml and docs true to the code
	@ruff format --check .
	@ruff check .
	@mypy
	@lint-imports
	@python -m flows.graph --check
	@python -m flows.docs --check

format: setup  ## let ruff rewrite the code
	@ruff format .
	@ruff check --fix .

docs: setup  ## regenerate dvc.yaml's lists and docs/{data-flow,prompts,tables}.md
	@python -m flows.graph --write
	@python -m flows.docs

lock: setup  ## renew requirements.lock from the ranges in pyproject.toml
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--extra dev pyproject.toml --output-file requirements.lock

clean:  ## delete the virtual environment and everything the pipeline made
	rm -rf $(VENV) data models metrics reports plots work .prefect .dvc/cache .dvc/tmp
