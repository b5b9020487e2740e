# `make help` lists what there is. Python 3.11+, make and a package registry are all it needs.

# A bare environment (`env -i`) has no PATH, and Python cannot find itself without one.
export PATH := $(or $(PATH),/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 3000
GATEWAY_PORT ?= 8700
SANDBOX_PORT ?= 8701
# Which of the fault tests: all of them take hours. `make test` has a small version of each.
FAULTS ?= communicator_pipeline_tests
# How much of each that follows it (1: all), and the seed: empty for a fresh one, which is printed.
FAULTS_SHARE ?= 1
FAULTS_SEED ?=
# How many at a time: 0 in this process. At full size they want the machine for themselves.
FAULTS_AT_ONCE ?= 0
ENV ?= dev
# Those that say most about the stores. The others run on them too: ON_STORES=communicator_pipeline_tests/chain
ON_STORES ?= $(addprefix communicator_pipeline_tests/,storage/test_contacts.py storage/test_corrections.py \
	storage/test_export.py storage/test_landing.py storage/test_sign_in.py storage/test_statistics.py \
	storage/test_audit.py ingestion/test_pull.py ingestion/test_push.py ingestion/test_removal.py \
	chain/test_chain.py $(addprefix delivery/,test_approving.py test_dispatch.py test_policies.py \
	test_recovery.py test_states.py test_voiding.py))
# Those that drive Dagster: they run again with its records in Postgres.
ON_POSTGRES ?= $(addprefix communicator_pipeline_tests/,test_worker.py test_definitions.py test_turns.py \
	dagster_records/test_pruning.py dagster_records/test_moving.py engines/test_run_launchers.py \
	delivery/test_killed_run.py notifying/test_who_tells.py comparing/test_compare.py cli/test_delivering.py \
	cli/test_commands.py $(addprefix chain/,test_label_models.py test_reply_memory.py test_usage.py test_redrafting.py))
PEERS := communicator_pipeline_tests/peers

# Everything of an installation from this clone lies in one folder, wherever a command is run.
export COMMUNICATOR_HOME ?= $(CURDIR)/.communicator

.PHONY: help install demo dev test test-peers test-cloudflare test-postgres test-account test-faults lint types build bench preview deploy lock clean

help:  ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(VENV)/.installed  ## Make the environment from the lock file

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Communicator needs Python 3.11 or newer: say which with make PYTHON=python3.12"; exit 1; }
	@echo "Installing into $(VENV) (a minute or two) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## Import made-up exports, materialise every asset, show the inbox
	@$(BIN)/communicator demo

dev: install  ## Start worker, gateway, sandbox, and Dagster's web UI and daemon on the same data
	@$(BIN)/communicator doctor > /dev/null || $(BIN)/communicator doctor
	@mkdir -p $(COMMUNICATOR_HOME)/dagster
	@cp dagster.yaml $(COMMUNICATOR_HOME)/dagster/dagster.yaml
	@$(BIN)/python -c 'from communicator_pipeline.runs import open_instance; open_instance().__enter__()'
	@echo "Inbox: http://127.0.0.1:$(GATEWAY_PORT)/inbox   Dagster: http://127.0.0.1:$(PORT)   (Ctrl-C ends all)"
	@export DAGSTER_HOME=$(COMMUNICATOR_HOME)/dagster; \
		$(BIN)/communicator worker & worker=$$!; \
		$(BIN)/communicator serve --port $(GATEWAY_PORT) & serve=$$!; \
		$(BIN)/communicator sandbox serve --port $(SANDBOX_PORT) & sandbox=$$!; \
		trap 'kill $$worker $$serve $$sandbox 2> /dev/null; wait' EXIT; trap 'exit 0' INT TERM; \
		PYTHONWARNINGS='ignore:Function `dev_command`' $(BIN)/dagster dev \
			--workspace workspace.yaml --host 127.0.0.1 --port $(PORT) --log-level error

test: install  ## Run the tests
	@$(BIN)/pytest -n 3 -m "not faults and not peers and not account"

test-peers: install  ## Test the platforms against servers that others wrote (installs them first)
	@$(MAKE) --no-print-directory -C $(PEERS)
	@$(MAKE) --no-print-directory -C infra/cloudflare
	@$(MAKE) --no-print-directory -C infra/docker
	@$(BIN)/pytest -n 2 --dist loadfile -m peers

test-cloudflare: install  ## Run the tests of stores and pipeline on D1 and R2 in workerd
	@$(MAKE) --no-print-directory -C $(PEERS)
	@TEST_BACKEND=cloudflare $(BIN)/pytest -n 2 -m "not faults and not peers and not embedded" \
		$(ON_STORES)

test-postgres: install  ## Run the tests that drive Dagster with its records in Postgres (installed: apt-get install postgresql)
	@TEST_DAGSTER=postgres $(BIN)/pytest -n 2 -m "not faults and not account" $(ON_POSTGRES)

test-account: install  ## Run the contract tests on your own Cloudflare account, and clean up
	@$(BIN)/pytest -m account communicator_pipeline_tests/account

test-faults: install  ## Kill, cut the power, fill the disk, lose answers, at full size (FAULTS=path, FAULTS_SHARE=0.1)
	@FAULTS_SHARE=$(FAULTS_SHARE) FAULTS_SEED=$(FAULTS_SEED) $(BIN)/pytest -rP -n $(FAULTS_AT_ONCE) -m faults $(FAULTS)

lint: install  ## Check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: install  ## Check types, strictly
	@$(BIN)/mypy

build: install  ## Build the wheel
	@$(BIN)/hatchling build

bench: install  ## Print speeds and memory as ratios to known tools (takes some minutes)
	@$(MAKE) --no-print-directory -C benchmarks

preview:  ## Show what a deployment would change (ENV=dev)
	@$(MAKE) --no-print-directory -C infra/cloudflare preview ENV=$(ENV)

deploy:  ## Deploy to Cloudflare (ENV=dev): databases, their schema, everything, a look at the edge
	@for step in databases migrate deploy check; do \
		$(MAKE) --no-print-directory -C infra/cloudflare $$step ENV=$(ENV) || exit 1; done

lock:  ## Resolve the lock files anew (needs uv)
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
		--extra dev pyproject.toml -o requirements.lock --quiet
	$(MAKE) -C infra/docker lock
	$(MAKE) -C infra/cloudflare lock

clean:  ## Remove the environment and everything built; data in .communicator stays
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
