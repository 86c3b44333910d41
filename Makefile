# The README's two commands. Each makes its own virtual environment from the package index.
PYTHON ?= python3
VENV ?= .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

# Tests that need the shared faces and golden files skip, and say so, where there are none.
ANTIFORGERY_SHARED ?= $(if $(wildcard ../shared),$(abspath ../shared))
export ANTIFORGERY_SHARED
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint clean

demo: $(VENV)/installed-bench
	$(BIN)/antiforgery demo --out demo

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

# The stamps spare a second run the installation; a changed pyproject.toml renews them.
$(VENV)/installed-bench: pyproject.toml | $(VENV)/created
	$(PIP) install --quiet --editable ".[bench]"
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/created
	$(PIP) install --quiet --editable ".[dev]"
	@touch $@

$(VENV)/created:
	$(PYTHON) -m venv $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
