# Everything from a fresh clone: needs Python >= 3.11 and git only; Java >= 17 and Maven, where they
# are, give the tests and the demo a real Apache Kafka.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# How many processes the tests are dealt to, each with a broker: more than two cores, as tests wait.
TEST_PROCESSES ?= 3

.PHONY: help install test test-crash bench demo lint clean

help:
	@echo "make demo        install, then watch a fleet of agents run into its budgets (one minute)"
	@echo "make test        install, then all tests but the full crash test"
	@echo "make test-crash  install, then the full crash test"
	@echo "make bench       install, then all benchmarks; keeps the results in bench/RESULTS.md"
	@echo "make lint        ruff, mypy, import-linter"
	@echo "make install     .venv with everything; quick when nothing has changed"
	@echo "make clean       remove .venv, caches and builds; the data in .outlay stays"

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "outlay needs Python >= 3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@# Tansu serves where there is no Java. It has no builds for some platforms, and all runs without.
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[tansu]' \
		|| echo "Tansu could not be installed; Apache Kafka or a broker of your own is needed"
	@touch $(STAMP)

test: install
	$(BIN)/pytest -m "not crash" -n $(TEST_PROCESSES)

test-crash: install
	$(BIN)/pytest -m crash -s

bench: install
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m bench --results bench/RESULTS.md

demo: install
	$(BIN)/outlay demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
