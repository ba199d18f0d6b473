# make demo: the main job on both frameworks.  make test: lint, types and all tests.
# make quick: lint, types and the tests that need no framework and no second.
# LOCK=today (the default) is the newest CPython of 3.10 to 3.13 that is here, with NumPy 2.
# LOCK=legacy is CPython 3.11 with NumPy 1.23.5.  PYTHON= names another Python.
LOCK ?= today
PYTHONS = $(if $(filter legacy,$(LOCK)),3.11,3.13 3.12 3.11 3.10)
PYTHON ?= $(shell .ci/find-python $(PYTHONS))
VENV ?= $(if $(filter legacy,$(LOCK)),.venv-legacy,.venv)
BIN = $(VENV)/bin
LOCKED = requirements-$(LOCK).lock
DEMO = runs/demo
# Processes that test side by side: each takes up to 7 GB.
WORKERS ?= 2
PROOF = $(if $(filter legacy,$(LOCK)),parity-legacy.json,parity.json)
BASE = $(or $(PYTHON),$(error there is no CPython $(PYTHONS) here that works: name one with PYTHON=))
PIP_INSTALL = pip install --disable-pip-version-check --no-deps

OF_PYTORCH = ^(torch|torchvision|triton|nvidia-.*|cuda-.*)==
OF_MXNET = ^(mxnet|gluoncv)==

.PHONY: help setup dev demo quick test legs leg-legacy parity zoo reliability bench chapter chapter-run docs errors lint format lock clean

help:
	@echo 'make setup   make $(VENV) with both frameworks, versions as locked (6 GB, some minutes)'
	@echo 'make demo    fine-tune on the built-in sample with both frameworks, draw the comparison'
	@echo 'make quick   lint, types and the fast tests: about a minute'
	@echo 'make test    lint, types and all tests'
	@echo 'make legs    the tests with no framework, with MXNet alone, with PyTorch alone; leg-legacy'
	@echo 'make parity  the whole proof, every architecture (over an hour, 24 GB); writes docs/parity.md'
	@echo 'make zoo     convert and prove the nets of both zoos (hours); writes docs/zoo.md'
	@echo 'make reliability  kills, faults and hostile files in full numbers (20 minutes); docs/reliability.md'
	@echo 'make bench   how fast it is, against book and peers (half an hour to an hour, 15 GB); docs/performance.md'
	@echo 'make chapter build the pages of the chapters from their stored outputs (build/chapters/html)'
	@echo 'make chapter-run  run the cells that are stale first'
	@echo 'make docs    build the documentation as a site (build/docs/html)'
	@echo 'make errors  note the errors that TESTS provoke in benchmarks/error_texts.json; write docs/errors.md'
	@echo 'make lint    lint and types alone'
	@echo 'make format  format the code'
	@echo 'make lock    write requirements-today.lock: the newest versions that fit'
	@echo
	@echo 'LOCK=today   the newest CPython of 3.10 to 3.13 that is here, NumPy 2 (the default)'
	@echo 'LOCK=legacy  CPython 3.11, NumPy 1.23.5, in .venv-legacy'
	@echo 'PYTHON=...   another Python'

setup: $(VENV)/.installed

$(VENV)/.installed: $(LOCKED) pyproject.toml
	$(BASE) -m venv --clear $(VENV)
	$(BIN)/$(PIP_INSTALL) -r $(LOCKED)
	$(BIN)/$(PIP_INSTALL) -e .
	touch $@

# What tests, lint and benchmarks need besides; the lock of `legacy` has it all in one.
dev: $(VENV)/.dev

$(VENV)/.dev: $(if $(filter today,$(LOCK)),requirements-dev.lock) $(VENV)/.installed
	$(if $(filter today,$(LOCK)),$(BIN)/$(PIP_INSTALL) -r $<)
	touch $@

demo: setup
	rm -rf $(DEMO)
	$(BIN)/d2l-ft train --backend pytorch --compare --out $(DEMO)/pytorch
	$(BIN)/d2l-ft train --backend mxnet --compare --out $(DEMO)/mxnet
	$(BIN)/d2l-ft compare $(DEMO)/pytorch $(DEMO)/mxnet --out $(DEMO)/comparison.png

# What computes runs side by side; what starts processes, ends them or measures memory runs alone.
test: dev lint
	$(BIN)/python -m pytest -n $(WORKERS) --durations=15 tests/contract tests/convert tests/parity tests/unit
	$(BIN)/python -m pytest --durations=15 tests/chapter tests/e2e tests/reliability

quick: dev lint
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not slow and not framework'

legs: leg-core leg-mxnet leg-pytorch leg-legacy

# The environment before this one: what computes, and the proof on one net.
leg-legacy:
	$(MAKE) dev LOCK=legacy VENV=$(VENV)-legacy PYTHON="$$(.ci/find-python 3.11)"
	$(VENV)-legacy/bin/python -m pytest -m framework tests/contract tests/unit tests/parity -k 'not planted'

# Each of these has an environment that lacks what the leg does without; the three take 8 GB.
.PRECIOUS: $(VENV)-%/.installed
leg-%: $(VENV)-%/.installed
	D2L_FT_LEG=$* $(VENV)-$*/bin/python -m pytest -n $(WORKERS) $(if $(filter-out core,$*),-m framework)

$(VENV)-core/.installed: WITHOUT = $(OF_PYTORCH)|$(OF_MXNET)
$(VENV)-mxnet/.installed: WITHOUT = $(OF_PYTORCH)
$(VENV)-pytorch/.installed: WITHOUT = $(OF_MXNET)
$(VENV)-%/.installed: $(LOCKED) requirements-dev.lock pyproject.toml
	$(BASE) -m venv --clear $(@D)
	awk '/^[^ ]/ { out = /$(WITHOUT)/ } !out' $(LOCKED) requirements-dev.lock > $(@D)/requirements.txt
	$(@D)/bin/$(PIP_INSTALL) -r $(@D)/requirements.txt
	$(@D)/bin/$(PIP_INSTALL) -e .
	touch $@

parity: dev
	$(BIN)/d2l-ft parity --arch all --json benchmarks/$(PROOF) --report runs/parity.html
	$(BIN)/d2l-ft parity --prove --json benchmarks/faults.json
	$(BIN)/python benchmarks/parity_page.py

zoo: dev
	$(BIN)/python benchmarks/zoo.py

reliability: dev
	$(BIN)/python benchmarks/reliability.py

bench: dev
	$(BIN)/python benchmarks/performance.py

chapter: setup
	$(BIN)/d2l-ft chapter build --no-run

chapter-run: setup
	$(BIN)/d2l-ft chapter build

docs: setup
	$(BIN)/sphinx-build -q -W --keep-going -b html -d build/docs/doctrees docs build/docs/html

# TESTS=  names the tests that see new errors; what others saw before stays in the table.
TESTS = tests/unit/*/test_error_texts.py
errors: dev
	$(BIN)/python -m pytest -p error_texts --error-texts benchmarks/error_texts.json $(TESTS)
	$(BIN)/python tests/error_texts.py

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One file for all Pythons: a package has a line for each range of them that needs its own version.
# Every file of every package has its hash. The lock of `legacy` stays as it is.
COMPILE = build/uv/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url pyproject.toml
lock:
	$(BASE) -m venv build/uv
	build/uv/bin/pip install --disable-pip-version-check --quiet uv
	$(COMPILE) --upgrade --extra mxnet --extra pytorch --extra book -o requirements-today.lock
	$(COMPILE) --upgrade --extra dev --group proof -c requirements-today.lock -o requirements-dev.lock

clean:
	rm -rf build dist *.egg-info runs .pytest_cache .mypy_cache .ruff_cache
