# dvctl. Everything runs in .venv, which `make setup` builds from the locked versions in requirements/constraints.txt.
PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
SECONDS ?= 300
SEED    ?=
ROUNDS  ?= 3
REDIS   ?=
DISPATCH ?=
PYTEST_ARGS ?=
WORKERS ?= 5
ROUNDS  ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint unit long coverage generate site bench million chaos soak-topology soak-failover fuzz audit lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv with dvctl (editable) and everything the tests need

$(STAMP): pyproject.toml requirements/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dvctl needs Python 3.11 or newer: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt -e '.[demo,dispatch,docs,mysql,test]'
	@touch $@

demo: setup ## the story in five seconds, without any server: dvctl demo
	$(BIN)/dvctl demo

test: setup ## everything that must pass: lint, types, import rules, generated files, all tests
	@$(MAKE) --no-print-directory --jobs=2 lint unit

lint: setup ## ruff, codespell, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: setup ## pytest, on private servers, in WORKERS=5 processes (many tests wait); choose with PYTEST_ARGS='tests/unit -k name'
	@$(BIN)/python -m compileall -q devicevault_cli tests # under PYTHONDONTWRITEBYTECODE each process would compile anew
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

long: setup ## the tests that take minutes: a host cut off for 90 s, a Galera node that dies, chaos with a new seed
	$(BIN)/python -m pytest -m long --timeout 900 $(PYTEST_ARGS)

coverage: setup ## all tests with branch coverage of the package, processes included; fails under the threshold of pyproject.toml
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report

generate: setup ## write docs/cli.md and the completions from the app
	$(BIN)/python -m tools.generate

site: setup ## README and docs as a web site in build/site; a broken link fails
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env -c tools/site -d build/doctrees . build/site

bench: setup ## measure against the yardsticks side by side (15 minutes): docs/performance.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt -e '.[demo,dispatch,docs,mysql,test,bench]'
	@$(BIN)/python -m compileall -q devicevault_cli tests
	$(BIN)/python -m tests.bench

million: setup ## a million pending entries: time and memory of the repairs, on each Redis (4 minutes)
	$(BIN)/python -m tests.bench.million --redis redis-7.0
	$(BIN)/python -m tests.bench.million --redis redis-6.2

chaos: setup ## consumers that die, a producer, faults from a seed: make chaos SECONDS=300 SEED=7 REDIS=valkey-9.1 DISPATCH=1
	$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(REDIS),--redis $(REDIS)) \
	  $(if $(DISPATCH),--dispatch)

soak-topology: setup ## Redis Cluster and Sentinel: masters killed and frozen, lagging replicas, resharding: make soak-topology ROUNDS=3
	DVCTL_TEST_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest $(PYTEST_ARGS) tests/soak/topology_faults.py

soak-failover: setup ## PostgreSQL: promotions under load, old primaries that come back, PgBouncer between: make soak-failover ROUNDS=3
	DVCTL_TEST_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest -s $(PYTEST_ARGS) tests/soak/postgres_failover.py

fuzz: setup ## coverage-guided fuzzing of all that reads foreign bytes: make fuzz SECONDS=300
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements/constraints.txt -e '.[demo,dispatch,docs,mysql,test,fuzz]'
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

audit: setup ## look the locked versions up among the known vulnerabilities (asks the network)
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)/audit/bin/pip-audit --requirement requirements/constraints.txt --no-deps --disable-pip --strict

lock: ## write requirements/constraints.txt anew with the newest versions that pyproject.toml allows
	rm -rf $(VENV)/lock && $(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet --disable-pip-version-check -e '.[demo,dispatch,docs,mysql,test,bench,fuzz]'
	$(VENV)/lock/bin/pip freeze --all --exclude pip --exclude-editable > requirements/constraints.txt
	rm -rf $(VENV)/lock

clean: ## remove .venv and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* .import_linter_cache build dist *.egg-info
