# Needs Python 3.11 or newer and a package index; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Tests run side by side in so many processes: two a core, for some wait, for servers and for processes that they kill;
# those of `make quick` wait less. Each takes up to 3 GB. Bytecode is written, for they start many processes.
CORES := $(shell $(PYTHON) -c "import os; print(min(os.cpu_count(), 4))")
WORKERS ?= $(shell expr 2 \* $(CORES))
# glibc keeps what is freed for the next tensor: given back to the system each time, it costs 9 million page faults.
MALLOC = MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824
PYTEST = PYTHONDONTWRITEBYTECODE= $(MALLOC) $(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

.PHONY: help install demo test suite quick check style types format lock clean

help:
	@echo "make demo     draw examples/catalog.parquet into out/demo, take examples/pictures.parquet apart into out/layers"
	@echo "make test     check format, lint, types and imports, and run the tests"
	@echo "make quick    run the tests of what a change is likely to break: all but slow tests and most whole runs"
	@echo "make check    check format, lint, types and imports"
	@echo "make format   format the code"
	@echo "make lock     resolve requirements.lock again, and deploy/ray/requirements.lock"

install: $(INSTALLED)

# The lock names exact versions with their hashes; packshot itself is linked, so that an edit is in force at once.
# Bytecode is compiled here, or every process would compile all of torch and Prefect anew where Python writes none itself.
$(INSTALLED): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes --requirements requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q flows tasks models safety
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/packshot generate examples/catalog.parquet --store out/demo --job examples/catalog.toml || test $$? -eq 1
	@$(BIN)/packshot decompose examples/pictures.parquet --store out/layers || test $$? -eq 1

check: style types

style: $(INSTALLED)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(INSTALLED)
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Types are checked beside the tests: for half a minute, of which the first seconds of the tests leave a core idle.
test: style
	@$(MAKE) --no-print-directory --jobs 2 types suite

suite: $(INSTALLED)
	@$(PYTEST) --durations 20

quick: WORKERS := $(shell expr $(CORES) + $(CORES) / 2)
quick: $(INSTALLED)
	@$(PYTEST) -m "not slow"

format: $(INSTALLED)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock:
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
		--extra check pyproject.toml --output-file requirements.lock --upgrade
	@echo 'ray[default]' | $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate \
		--python-version 3.11 --constraint requirements.lock - --output-file deploy/ray/requirements.lock --upgrade

clean:
	rm -rf $(VENV) out
