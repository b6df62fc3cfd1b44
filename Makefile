# Two commands matter: `make verify` (the report) and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: verify test check lint types contracts wheel bench mutants format

verify: $(INSTALLED)
	$(BIN)/sensverify verify --out runs/verify

test: $(INSTALLED)
	$(BIN)/pytest

check: lint types contracts wheel test

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

contracts: $(INSTALLED)
	$(BIN)/lint-imports --no-cache

# The wheel must work where the source tree is not: built, installed into an empty environment, run from /.
wheel: $(INSTALLED)
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --quiet --wheel --outdir build/wheel .
	$(PYTHON) -m venv build/wheel/venv
	build/wheel/venv/bin/python -m pip install --quiet --constraint constraints.txt build/wheel/*.whl
	cd / && $(CURDIR)/build/wheel/venv/bin/sensverify list > $(CURDIR)/build/wheel/list.txt
	grep -q RA-3 build/wheel/list.txt && grep -q PY-1 build/wheel/list.txt
	rm -rf build/wheel/venv

bench: $(INSTALLED)
	$(BIN)/sensverify bench --json
	for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script || exit 1; done

# Breaks the engine in some 230 places, one at a time, and counts what `verify proofs` notices (about half an hour).
mutants: $(INSTALLED)
	$(BIN)/python tests/mutants.py

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[lm,plots,toys,sat,dev]'
	touch $@
