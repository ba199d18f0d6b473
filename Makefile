# make demo: the main job on both frameworks.  make test: lint, types and all tests.
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
DEMO = runs/demo

OF_PYTORCH = ^(torch|torchvision|triton|nvidia-.*|cuda-.*)==
OF_MXNET = ^(mxnet|gluoncv)==

.PHONY: help setup demo test legs parity reliability bench chapter chapter-run lint format lock clean

help:
	@echo 'make setup   make $(VENV) with both frameworks, versions as locked (5 GB, some minutes)'
	@echo 'make demo    fine-tune on the built-in sample with both frameworks, draw the comparison'
	@echo 'make test    lint, types and all tests'
	@echo 'make legs    the tests with no framework, with MXNet alone, with PyTorch alone'
	@echo 'make parity  the whole proof, every architecture (over an hour, 24 GB); writes docs/parity.md'
	@echo 'make reliability  kills, faults and hostile files in full numbers (20 minutes); docs/reliability.md'
	@echo 'make bench   how fast it is, against book and peers (half an hour to an hour, 15 GB); docs/performance.md'
	@echo 'make chapter build the pages of the chapters from their stored outputs (build/chapters/html)'
	@echo 'make chapter-run  run the cells that are stale first'
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
	$(BIN)/d2l-ft train --backend pytorch --compare --out $(DEMO)/pytorch
	$(BIN)/d2l-ft train --backend mxnet --compare --out $(DEMO)/mxnet
	$(BIN)/d2l-ft compare $(DEMO)/pytorch $(DEMO)/mxnet --out $(DEMO)/comparison.png

test: setup lint
	$(BIN)/python -m pytest --durations=15

legs: leg-core leg-mxnet leg-pytorch

# Each leg has an environment that lacks what the leg does without; the three take 6 GB.
.PRECIOUS: $(VENV)-%/.installed
leg-%: $(VENV)-%/.installed
	D2L_FT_LEG=$* $(VENV)-$*/bin/python -m pytest

$(VENV)-core/.installed: WITHOUT = $(OF_PYTORCH)|$(OF_MXNET)
$(VENV)-mxnet/.installed: WITHOUT = $(OF_PYTORCH)
$(VENV)-pytorch/.installed: WITHOUT = $(OF_MXNET)
$(VENV)-%/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(@D)
	grep -vE '$(WITHOUT)' requirements.lock > $(@D)/requirements.txt
	$(@D)/bin/pip install --disable-pip-version-check --no-deps -r $(@D)/requirements.txt
	$(@D)/bin/pip install --disable-pip-version-check --no-deps -e .
	touch $@

parity: setup
	$(BIN)/d2l-ft parity --arch all --json benchmarks/parity.json --report runs/parity.html
	$(BIN)/d2l-ft parity --prove --json benchmarks/faults.json
	$(BIN)/python benchmarks/parity_page.py

reliability: setup
	$(BIN)/python benchmarks/reliability.py

bench: setup
	$(BIN)/python benchmarks/performance.py

chapter: setup
	$(BIN)/d2l-ft chapter lib --out d2l_ft
	$(BIN)/d2l-ft chapter build --no-run

chapter-run: setup
	$(BIN)/d2l-ft chapter lib --out d2l_ft
	$(BIN)/d2l-ft chapter build

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
