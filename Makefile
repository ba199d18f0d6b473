# make demo: the main job on both frameworks.  make test: what CI runs.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
DEMO = runs/demo
OPTIONS = --compare --batch-size 32 --lr 0.002

.PHONY: help setup demo test lint format lock clean

help:
	@echo 'make setup   make $(VENV) with both frameworks, versions as locked (5 GB, some minutes)'
	@echo 'make demo    fine-tune on the built-in sample with both frameworks, draw the comparison'
	@echo 'make test    lint, types and all tests'
	@echo 'make lint    lint and types alone'
	@echo 'make format  format the code'
	@echo 'make lock    write requirements.lock from the environment'

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/pip install --disable-pip-version-check --no-deps -e .
	touch $@

demo: setup
	rm -rf $(DEMO)
	$(BIN)/d2l-ft train --backend pytorch $(OPTIONS) --out $(DEMO)/pytorch
	$(BIN)/d2l-ft train --backend mxnet $(OPTIONS) --out $(DEMO)/mxnet
	$(BIN)/d2l-ft compare $(DEMO)/pytorch $(DEMO)/mxnet --out $(DEMO)/comparison.png

test: setup lint
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:
	$(BIN)/pip freeze --exclude-editable | grep -v '^d2l-ft' > requirements.lock

clean:
	rm -rf build dist *.egg-info runs .pytest_cache .mypy_cache .ruff_cache
