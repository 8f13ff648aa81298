# From a fresh clone: `make demo` (the whole pipeline on the embedded sample), `make test`.
# Paths are relative: the folder's own path may contain blanks. Nothing is activated: every Python of .venv puts .venv/bin
# first on PATH for what it starts (flows/installing/venv_start.py).
SHELL := /bin/bash
RUN := .venv/bin/python -m
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help ready setup demo run test check format lock docs clean

help:  ## list what can be typed here
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | sort

ready:
	@bash flows/installing/setup.sh $(CHECKED)

setup demo: CHECKED = --outputs
run: CHECKED = --profiles $(PROFILE)

setup: ready  ## check what is needed, create .venv and install the pinned set
	@echo "setup: .venv holds requirements.lock; next: make demo"

demo: ready  ## run the whole pipeline on the embedded sample and print the results
	@$(RUN) flows.demo

run: ready  ## PROFILE=NAME: the whole pipeline for a dataset brought in by flows.ingest
	@$(RUN) flows.profile $(PROFILE)

test: ready  ## run the tests
	@$(RUN) pytest -n 2 --dist loadfile --no-loadscope-reorder

check: ready  ## ruff, mypy --strict, import-linter, dvc.yaml and docs true to the code
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports
	@$(RUN) flows.graph --check
	@$(RUN) flows.docs --check

format: ready  ## let ruff rewrite the code
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

docs: ready  ## regenerate dvc.yaml's lists and docs/{data-flow,prompts,tables}.md
	@$(RUN) flows.graph --write
	@$(RUN) flows.docs

lock: ready  ## renew requirements.lock from the ranges in pyproject.toml
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
		--extra dev pyproject.toml --output-file requirements.lock

clean:  ## delete the virtual environment and everything the pipeline made
	rm -rf .venv data models metrics reports plots work .prefect .dvc/cache .dvc/tmp
