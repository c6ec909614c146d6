# Two commands: `make demo` and `make test`. Both set up .venv first, from pinned packages; the second time that is quick.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test faults lint clean

demo: $(STAMP)
	$(BIN)/xmae demo --out runs/demo

test: $(STAMP)
	$(BIN)/ruff check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder  # a process a core, one thread each

faults: $(STAMP)  # damaged files of every kind, about an hour of one core
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults

$(STAMP): pyproject.toml constraints.txt
	@echo "Setting up $(VENV): the packages of constraints.txt (about 4 GB on disk), for this folder only; no system package, no sudo."
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing; install it (Debian/Ubuntu: apt install python3.11-venv) or name another: make PYTHON=python3"; exit 1; }
	@free=$$(df -Pk . | awk 'NR == 2 {print int($$4 / 1048576)}'); test -x $(BIN)/pip || test $$free -ge 6 || { echo "Only $$free GB are free on this disk; the set-up needs 6 GB (4 GB stay). Free some and call make again."; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) || { echo "no venv module; on Debian/Ubuntu: apt install python3.11-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt
	$(BIN)/python -m pip install --quiet torch -c constraints.txt
	$(BIN)/python -m pip install --quiet --editable ".[edge,firmware,dev]" -c constraints.txt
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs build *.egg-info
