# `make demo`, `make test` and `make docs` make their environment from nothing, in .venv, and run.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	"$$p" -c 'import ensurepip, venv' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test docs clean

demo: $(INSTALLED)
	$(BIN)/vcframe demo --out demo

# A process for each core; more threads in each would only wait for one another.
test: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadfile --cov --cov-report=term:skip-covered

# The site, in build/site; it can be read from there without a server.
docs: $(INSTALLED)
	$(BIN)/python -m typer vcframe.cli utils docs --name vcframe --output docs/command-line.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv build dist demo *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache

$(INSTALLED): pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "vcframe needs Python 3.11, 3.12 or 3.13 with venv; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Installing vcframe and what it needs into .venv (minutes the first time, then only on changes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
