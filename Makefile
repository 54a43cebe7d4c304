# Needs GNU make (3.81 or later) and a python >= 3.11 with venv and pip; everything else goes into .venv.
# `make` or `make help` lists the targets. A python of your own choice: `make PYTHON=/path/to/python3.12`.

PYTHON = python3 python3.14 python3.13 python3.12 python3.11
UV_VERSION = 0.13.9
VERSIONS = 3.11 3.11+uvloop 3.12 3.13 3.14

BIN = .venv/bin
READY = .venv/.ready
REDIS62 = .venv/redis62/redis-server
CHROMIUM = .venv/chromium/chromium
# In how many processes the tests run; `make test JOBS=0` runs them in this one.
JOBS = 2
PYTEST = $(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=worksteal
CHECKED = redis_toolkit tests examples $(wildcard benchmarks)

# An interpreter is never downloaded.
export UV_PYTHON_DOWNLOADS = never
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# mkdocs-material's notice about its successor.
export NO_MKDOCS_2_WARNING = 1

.PHONY: help demo chat test faults chaos test-all coverage lint format docs lock clean
.DEFAULT_GOAL = help

help:
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

# The first of $(PYTHON) that really runs (a shim may not), is new enough and has venv and pip. pip stands in for uv
# where only pip.conf names the package mirror, as uv does not read that file.
$(READY): requirements.lock pyproject.toml
	@set -e; \
	if ! $(BIN)/python -c 'import pip' >/dev/null 2>&1; then \
		found=; \
		for candidate in $(PYTHON); do \
			if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
			then found=$$candidate; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo 'No Python >= 3.11 with venv and pip is among: $(PYTHON)' >&2; \
			echo 'Install one (on Debian and Ubuntu: python3 and python3-venv), or name it: make PYTHON=/path/to/python' >&2; \
			exit 1; \
		fi; \
		echo "Setting up .venv with $$found"; \
		"$$found" -m venv --clear .venv; \
	fi; \
	$(BIN)/python -m pip install -qq 'uv==$(UV_VERSION)'; \
	$(BIN)/uv pip sync -q --require-hashes --python $(BIN)/python requirements.lock \
		|| $(BIN)/python -m pip install -q --require-hashes -r requirements.lock; \
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	touch $@

# Redis 6.2, the oldest server of the test matrix.
$(REDIS62): tests/kit/fetch_redis62.py $(READY)
	@$(BIN)/python tests/kit/fetch_redis62.py $(@D)

# A browser for the tests of the web chat. Without one they are skipped, and this says so.
$(CHROMIUM): tests/kit/fetch_chromium.py $(READY)
	@$(BIN)/python tests/kit/fetch_chromium.py $(@D)

demo: $(READY) ## run the example: workers analyse Python's standard library, and one is killed
	@$(BIN)/python examples/stdlib_census.py
	@echo 'The program: examples/stdlib_census.py. Where to read on: README.md'

chat: $(READY) ## a chat in the browser, on a server of its own; Ctrl-C ends it. CHAT="--host 0.0.0.0" for phones, "--port 8001" for another port
	@$(BIN)/python examples/web_chat/server.py $(CHAT)

test: lint docs $(REDIS62) $(CHROMIUM) ## all checks: linters, types, layers, docs, then the tests
	@$(PYTEST)

faults: $(READY) $(REDIS62) ## the fault matrix in full: every fault caused for real, what held and what failed
	@$(PYTEST) --faults

chaos: $(READY) ## 20,000 tasks and events while workers and the server are killed; CHAOS_SEED=... repeats its choices
	@$(BIN)/python -m tests.chaos

test-all: $(READY) $(REDIS62) $(CHROMIUM) ## the tests on every Python from 3.11 to 3.14 that this machine has
	@$(BIN)/python tests/kit/every_python.py $(VERSIONS)

coverage: $(READY) $(REDIS62) $(CHROMIUM) ## the tests with a report of the branches they miss
	@$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered --cov-report=html

lint: $(READY) ## ruff, mypy and the import rules
	@echo 'Checking: ruff, mypy, import-linter, mkdocs; then the tests'
	@$(BIN)/ruff check --quiet $(CHECKED)
	@$(BIN)/ruff format --diff --quiet $(CHECKED) || { echo 'Not formatted; run: make format' >&2; exit 1; }
	@$(BIN)/mypy --no-error-summary $(CHECKED)
	@$(BIN)/lint-imports >.venv/lint-imports.log 2>&1 || { cat .venv/lint-imports.log >&2; exit 1; }

format: $(READY) ## format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix --quiet $(CHECKED); $(BIN)/ruff format --quiet $(CHECKED)

# Not with --quiet: it would hide the warnings from --strict as well.
docs: $(READY) ## build the documentation into site/
	@$(BIN)/mkdocs build --strict --site-dir site >.venv/mkdocs.log 2>&1 || { cat .venv/mkdocs.log >&2; exit 1; }

# One file for all platforms and Pythons, with hashes and without registry addresses. `make lock UPGRADE=--upgrade`.
lock: $(READY) ## resolve the dependencies again
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links $(UPGRADE) --extra embedded --extra pydantic \
		--group dev --group web --group docs \
		--output-file requirements.lock pyproject.toml
	@! grep -n '://' requirements.lock

clean: ## remove everything that make has made
	@rm -rf .venv .venv-3.* .cache site htmlcov .coverage .coverage.* build dist
	@rm -rf benchmarks/.venvs benchmarks/.results examples/.data
	@rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find $(CHECKED) -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# Takes about 20 minutes on a machine that does nothing else; `make bench BENCH=--quick` for development.
.PHONY: bench
BENCH = --scale
bench: $(READY) ## measure against the peers and the floors; writes docs/benchmarks.md
	@$(BIN)/python -m benchmarks $(BENCH)
