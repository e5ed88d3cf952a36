# Everything here works on a fresh clone: each target makes the .venv it needs.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?= -n 3
FUZZ_SECONDS ?= 60
TEST_PYTHONS ?= 3.11 3.12 3.13
BENCH ?= build/benchmarks/result.json
CORE := setup.py $(wildcard kobs/_core/src/*)
# As an installation does, that is not editable. Not every environment lets imports do it.
COMPILE = $(BIN)/python -m compileall -q kobs kobs_pytest instrumentation
SAY_CORE = $(BIN)/python -m kobs doctor --no-cost | grep "^core"

.DEFAULT_GOAL := help
.PHONY: help demo test lint types unit test-all oldest e2e e2e-setup model fuzz native sanitize cpython-tests project-suites crash docs bench bench-quick bench-docs clean

help: ## list the commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.demo ## record a real program and a real test run, and show the result
	@$(BIN)/python tools/demo.py

test: $(VENV)/.dev lint ## the whole test suite: linter, types, tests
	@$(MAKE) --no-print-directory -j2 types unit

lint: $(VENV)/.dev ## ruff, over code and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev ## mypy --strict
	$(BIN)/mypy

unit: $(VENV)/.dev ## the tests alone (PYTEST_ARGS="-n 3")
	$(BIN)/python -m pytest $(PYTEST_ARGS) -m "not e2e"

test-all: ## the tests, and what takes long, on every Python from 3.11 to 3.13 that is installed
	@tools/test_all.sh $(TEST_PYTHONS)

oldest: $(VENV)/.dev ## spans, logs and export with the oldest OpenTelemetry that kobs allows
	$(BIN)/python -m tools.oldest

e2e: $(VENV)/.dev e2e-setup ## the tests against real servers, which it installs
	$(BIN)/python -m pytest -m e2e tests/end_to_end

e2e-setup:
	@tests/end_to_end/setup.sh

model: ## check the ring's protocol with spin, a model checker, which it installs
	@tools/model.sh

fuzz: $(VENV)/.fuzz ## read damaged recordings for FUZZ_SECONDS (60) with the core that KOBS_CORE names
	$(BIN)/python -m tests.fuzz.fuzz $(FUZZ_SECONDS)

native: ## the ring's protocol in C without Python, threads in parallel (STRESS_S seconds a scenario)
	@mkdir -p build/native
	$(CC) -std=c11 -O2 -Wall -Wextra -Ikobs/_core/src tests/native/ring_stress.c \
		$(addprefix kobs/_core/src/,ring.c cursor.c clock.c) -o build/native/ring_stress -pthread
	build/native/ring_stress $(STRESS_S)

sanitize: $(VENV)/.dev ## the C core under thread, address and undefined-behaviour sanitizers
	tools/sanitize.sh

cpython-tests: $(VENV)/.dev ## CPython's own tests, bare and recorded, have to come out the same (MODULES="test_queue ...")
	$(BIN)/python -m tools.cpython_tests $(MODULES)

project-suites: $(VENV)/.dev ## the tests of well-known projects, bare, with the plugin unused and under `pytest --kobs`, have to come out the same (PROJECTS="pluggy ...")
	$(BIN)/python -m tools.project_suites $(PROJECTS)

crash: $(VENV)/.dev ## kill -9 at 1,000 random moments, with the C core
	KOBS_KILLS=1000 $(BIN)/python -m pytest -s "tests/crash/test_kill.py::test_kills[c]"
	KOBS_PROGRAM_KILLS=200 $(BIN)/python -m pytest -s tests/crash/test_kill_program.py

docs: $(VENV)/.dev ## make the reference pages from the declarations
	$(BIN)/python -m tools.reference
	$(BIN)/python -m tools.vocabularies
	$(BIN)/python -m tools.subsystems
	$(BIN)/python -m tools.figures

bench: $(VENV)/.bench ## every figure of the design, beside peers and floors, in one run
	$(BIN)/python -m benchmarks --json $(BENCH)

bench-quick: $(VENV)/.dev ## the same, rough
	$(BIN)/python -m benchmarks --quick --json $(BENCH)

bench-docs: $(VENV)/.dev ## put the last `make bench` into docs/reference/figures.md
	$(BIN)/python -m tools.figures $(BENCH)

clean: ## remove what the commands made
	rm -f kobs/_core/_native.*.so
	rm -rf $(VENV) .venv-* .demo .e2e build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "kobs needs Python 3.11 or later with the venv module (on Debian: the package python3-venv); none was found. Name one with PYTHON=..." >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml $(CORE) | $(VENV)/bin/python
	@echo "installing kobs, rich and pytest into $(VENV)"
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[cli,pytest]'
	@$(COMPILE)
	@$(SAY_CORE)
	@touch $@

$(VENV)/.dev: pyproject.toml $(CORE) | $(VENV)/bin/python
	@echo "installing kobs and its development tools into $(VENV)"
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[dev]'
	@$(COMPILE)
	@$(SAY_CORE)
	@touch $@ $(VENV)/.demo

$(VENV)/.bench: $(VENV)/.dev
	@echo "installing Flask, for the programs that are measured whole, into $(VENV)"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[bench]'
	@touch $@

$(VENV)/.fuzz: $(VENV)/.dev
	@echo "installing atheris into $(VENV)"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --only-binary atheris -e '.[fuzz]' || \
		echo "atheris has no wheel for this Python: fuzzing goes on without it" >&2
	@touch $@
