# Development tasks. `make help` lists them; `make demo` and `make test` set up what they need.
BIN := .venv/bin
# Each process of the tests opens its windows on a virtual screen of its own (pytest-xvfb). Without Xvfb they would share
# one, and take the keyboard's focus from each other. Looked up when used, after setup may have installed it.
JOBS = $(if $(shell command -v Xvfb),2,0)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint constraints clean

help:  ## list the targets
	@grep -E '^[a-z]+: .*##' Makefile | sed -E 's/^([a-z]+):[^#]*## */  make \1\t/'

setup:  ## .venv with the package, its dependencies and the tools (skipped when all is there)
	@scripts/setup.sh

demo: setup  ## the sample slide with prediction, uncertainty and OOD; results in demo/
	$(BIN)/napari-ood demo --out demo $(ARGS)

test: setup  ## the whole test suite, ARGS="tests/test_cli.py -k info" for a part
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: setup  ## style, types and the floors' import contract
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

constraints: setup  ## rewrite constraints.txt from what .venv holds; run after upgrading it
	$(BIN)/python scripts/constraints.py > constraints.new
	mv constraints.new constraints.txt

clean:  ## remove .venv, caches and demo results
	rm -rf .venv demo build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
