# In a fresh clone: `make demo` runs the whole pipeline on the embedded sample, `make test` the tests.
# Paths are relative, because the folder's path may contain spaces. No activation is needed: every Python of .venv puts
# .venv/bin first on PATH for its child processes (flows/installing/venv_start.py).
SHELL := /bin/bash
RUN := .venv/bin/python -m
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help ready setup demo run test check format lock docs clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | sort

ready:
	@bash flows/installing/setup.sh $(CHECKED)

setup demo: CHECKED = --outputs
run: CHECKED = --profiles $$PROFILE    # read by the shell as words, never as commands

setup: ready  ## check preconditions, create .venv and install the pinned packages
	@echo "setup: .venv holds requirements.lock; next: make demo"

demo: ready  ## run the whole pipeline on the embedded sample and print the results
	@$(RUN) flows.demo

run: ready  ## run the whole pipeline of profile PROFILE=NAME, whose dataset flows.ingest has ingested
	@$(RUN) flows.profile $$PROFILE

test: ready  ## run the tests
	@$(RUN) pytest -n 2 --dist loadfile --no-loadscope-reorder

check: ready  ## run ruff, mypy --strict and import-linter; check that dvc.yaml and docs match the code
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(RUN) flows.graph --check
	@$(RUN) flows.docs --check

format: ready  ## format the code with ruff
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

docs: ready  ## regenerate the lists in dvc.yaml and docs/reference
	@$(RUN) flows.graph --write
	@$(RUN) flows.docs

lock: ready  ## update requirements.lock from the ranges in pyproject.toml
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--extra dev pyproject.toml --output-file requirements.lock

clean:  ## delete the virtual environment and all outputs of the pipeline
	rm -rf .venv data models metrics reports plots work .prefect .dvc/cache .dvc/tmp
