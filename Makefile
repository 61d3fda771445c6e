# Everything starts from a fresh clone with Python >= 3.11 and make; the first target makes the virtual environment.
PYTHON ?= python3
JOBS ?= 2
METHOD ?= sorsa

VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := requirements/constraints.txt
# The stamp is named by the content of what it depends on: a checkout that only moves time stamps installs nothing.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml $(CONSTRAINTS) | cksum | cut -d ' ' -f 1)
# Flower's pins clash with those of the other extras.
FLOWER_VENV := .venv-flower
FLOWER_BIN := $(FLOWER_VENV)/bin
FLOWER_CONSTRAINTS := requirements/constraints-flower.txt
FLOWER_STAMP := $(FLOWER_VENV)/.installed-$(shell cat pyproject.toml $(FLOWER_CONSTRAINTS) | cksum | cut -d ' ' -f 1)
# xdist runs one process per core, so each keeps to one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "eigenhub needs Python >= 3.11, got $$($(PYTHON) -V); set PYTHON=python3.11 or newer" >&2; exit 1; }
BROWSERS := chromium chromium-browser google-chrome

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-browser test-flower test-hub test-install capabilities quality style docs bench bench-full clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

install: $(STAMP)  ## make the virtual environment

$(STAMP):
	@$(CHECK_PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (several minutes the first time)"
	@# torch first and alone: nothing that follows can then pull another build of it
	@$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) torch
	@$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[all]'
	@rm -f $(VENV)/.installed-*
	@touch $@

$(FLOWER_STAMP):
	@$(CHECK_PYTHON)
	@test -x $(FLOWER_BIN)/python || $(PYTHON) -m venv $(FLOWER_VENV)
	@echo "installing into $(FLOWER_VENV) (a few minutes the first time)"
	@$(FLOWER_BIN)/python -m pip install --quiet -c $(FLOWER_CONSTRAINTS) torch
	@$(FLOWER_BIN)/python -m pip install --quiet -c $(FLOWER_CONSTRAINTS) -e '.[flower,dp,demo]' pytest pytest-timeout psutil
	@rm -f $(FLOWER_VENV)/.installed-*
	@touch $@

demo: $(STAMP)  ## run a method's demo on embedded data (METHOD=sorsa)
	$(BIN)/eigenhub demo $(METHOD)

test: $(STAMP)  ## run the tests in JOBS processes
	$(PYTEST) -n $(JOBS) --dist loadscope

test-slow: $(STAMP)  ## run the tests marked slow
	$(PYTEST) -m slow --timeout 1800

test-browser: $(STAMP)  ## drive the Spaces in a headless Chromium
	@for name in $(BROWSERS); do command -v $$name >/dev/null && exit 0; done; \
		echo "make test-browser needs one of $(BROWSERS); on Debian: apt-get install chromium" >&2; exit 1
	$(PYTEST) -m browser -n $(JOBS) --dist loadscope

test-flower: $(FLOWER_STAMP)  ## run the Flower tests: in one process, on Ray, on a SuperLink
	OMP_NUM_THREADS=1 $(FLOWER_BIN)/python -m pytest tests/federated/flower -m 'flower or not flower' --timeout 600

test-hub: $(STAMP)  ## publish and load every method on a stand-in of the Hub
	$(PYTEST) tests/hub_users -m hub --timeout 3600

test-install: $(STAMP)  ## build sdist and wheel, install them into empty environments and use them (long)
	$(BIN)/python -m tests.install

capabilities: $(STAMP)  ## measure the table of capabilities again; fails if it lies
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.capabilities --check

quality: $(STAMP)  ## check format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

style: $(STAMP)  ## mend format and lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP)  ## build the documentation into build/docs, check its links, run its code
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going -b dirhtml docs build/docs
	$(BIN)/python docs/_ext/check_links.py build/docs
	$(PYTEST) tests/house/test_docs.py -m docs

bench: $(STAMP)  ## run every benchmark at small sizes and compare with the stored sitting
	$(BIN)/python benchmarks --short

bench-full: $(STAMP)  ## run every benchmark in full, hours; its results become the stored ones
	$(BIN)/python benchmarks --full

clean:  ## remove caches and build folders, not the virtual environment
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .gradio
	find . \( -path ./$(VENV) -o -path ./$(FLOWER_VENV) \) -prune -o -type d -name __pycache__ -exec rm -rf {} +
