# Two commands: `make demo` and `make test`. All targets set up .venv first, from pinned packages;
# the second time that is quick. Each sets up what it needs: demo, then tests, then all tests.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
DEMO := $(VENV)/.installed-demo
STAMP := $(VENV)/.installed
ALL := $(VENV)/.installed-all
# bytecode is written as modules are imported: 0.6 GB less, and a minute
PIP := $(BIN)/python -m pip install --quiet --no-compile -c constraints.txt
# what most changes break first
FAST := tests/test_rooms.py tests/test_public_face.py tests/test_prose.py tests/signals tests/models \
	tests/beats tests/cli/test_names.py tests/cli/test_cli.py tests/cli/test_files.py
# a process a core, one thread each
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-fast test-all faults fuzz lint typecheck docs coverage wheel clean

demo: $(DEMO)  ## real recordings -> encoder -> bundle -> drift report
	$(BIN)/xmae demo --out runs/demo

test: lint typecheck  ## what CI runs: lint, types, tests
	$(PYTEST) -m "not extended"

test-fast: $(STAMP)  ## under 2 minutes on 2 cores: what most changes break first
	$(PYTEST) -m "not slow and not extended" $(FAST)

test-all: $(ALL) lint typecheck docs  ## also wheels, other environments, browsers, fuzzing; coverage
	$(PYTEST) --cov --cov-report=term:skip-covered --cov-report=html:runs/coverage

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

typecheck: $(STAMP)  ## the public face and the typed contracts
	$(BIN)/mypy

docs: $(ALL)  ## the site, into runs/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

coverage: $(ALL)
	$(PYTEST) -m "not extended" --cov --cov-report=term:skip-covered --cov-report=html:runs/coverage

wheel: $(STAMP)  ## dist/xmae-VERSION-py3-none-any.whl
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

faults: $(STAMP)  ## damaged files of every kind, kills of every writer: minutes of one core
	mkdir -p runs
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults --notes runs/faults.json --out runs/faults.md

fuzz: $(STAMP)  ## coverage-guided fuzzing of the C code, by clang; half an hour of one core
	$(BIN)/python -m tests.fuzz

$(DEMO): pyproject.toml constraints.txt
	@echo "Setting up $(VENV): packages of constraints.txt (2.4 GB on disk; 3.3 GB with those of the tests), for this folder only; no system package, no sudo."
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing; install it (Debian/Ubuntu: apt install python3.11-venv) or name another: make PYTHON=python3"; exit 1; }
	@free=$$(df -Pk . | awk 'NR == 2 {print int($$4 / 1048576)}'); test -x $(BIN)/pip || test $$free -ge 5 || { echo "Only $$free GB are free on this disk; the set-up needs 5 GB. Free some and call make again."; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) || { echo "no venv module; on Debian/Ubuntu: apt install python3.11-venv"; exit 1; }
	$(PIP) --upgrade pip
	$(PIP) torch
	$(PIP) --editable ".[edge]"
	touch $(DEMO)

$(STAMP): $(DEMO)
	$(PIP) --editable ".[edge,firmware,dev]"
	touch $(STAMP)

$(ALL): $(STAMP)
	$(PIP) --editable ".[edge,firmware,dev,dev-all]"
	touch $(ALL)

clean:
	rm -rf $(VENV) runs build dist *.egg-info
