# `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONTACTS ?= 5contacts.csv
OURS := cli common local workspace bulksms rpc webapi salesapi console.py tests benchmarks

PIP := --quiet --disable-pip-version-check --require-hashes
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --custom-compile-command "make lock" \
	$(if $(UPGRADE),--upgrade) pyproject.toml

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.run: requirements.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing what the system needs into $(VENV) ..."
	@$(BIN)/python -m pip install $(PIP) -r requirements.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt
	@echo "installing what the tests need into $(VENV) ..."
	@$(BIN)/python -m pip install $(PIP) -r requirements-dev.txt
	@touch $@

install: $(VENV)/.run ## create .venv with what the system needs

demo: $(VENV)/.run ## run a campaign on real servers and watch it (CONTACTS=5000contacts.csv for more)
	@$(BIN)/python console.py demo $(CONTACTS)

up: $(VENV)/.run ## keep the whole system running, Ctrl-C stops it
	@$(BIN)/python console.py up

test: $(VENV)/.dev lint ## all tests and checks
	$(BIN)/python -m pytest -n 2 --dist loadfile

evaluate: $(VENV)/.run ## CPU, memory, messages and credit over a campaign of 5 and one of 5,000 contacts, with plots
	@$(BIN)/python console.py evaluate 5contacts.csv 5000contacts.csv

bench: $(VENV)/.dev ## measure the system, write benchmarks/results.json and the README's table (5 to 15 minutes)
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.dev ## a first look in under a minute; writes nothing
	$(BIN)/python -m benchmarks --quick

faults: $(VENV)/.dev ## inject faults into real campaigns and check that nothing is lost (SEED=1 repeats the moments)
	$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED))

lint: $(VENV)/.dev ## ruff, mypy --strict, the import contracts
	$(BIN)/ruff check $(OURS)
	$(BIN)/ruff format --check $(OURS)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff check --fix $(OURS)
	$(BIN)/ruff format $(OURS)

protos: $(VENV)/.dev ## generate the gRPC stubs in rpc/stubs from protos/
	$(BIN)/python -m grpc_tools.protoc -Irpc/stubs=protos --python_out=. --pyi_out=. --grpc_python_out=. protos/*.proto

dumps: $(VENV)/.run ## write ds_dump.sql and salesdb_dump.sql from the migrations
	$(BIN)/python -m local.dumps

# Each file holds the exact version of everything it installs; the later ones take their versions from the first.
lock: $(VENV)/.dev ## write requirements*.txt from pyproject.toml, with hashes (UPGRADE=1 for the newest versions)
	$(LOCK) --extra embedded --extra plots -o requirements.txt
	$(LOCK) --extra plots --extra tracing -c requirements.txt -o requirements-image.txt
	$(LOCK) --all-extras --group dev -c requirements.txt -c requirements-image.txt -o requirements-dev.txt

bad-inputs: $(VENV)/.dev ## send all bad inputs to the system and write the responses to docs/bad-inputs.md
	WRITE_DOCS=1 $(BIN)/python -m pytest -q tests/integration/test_bad_inputs.py

clean: ## remove the venv, the embedded servers' data and caches
	rm -rf $(VENV) .data .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install demo up test evaluate bench bench-quick faults lint format protos dumps lock bad-inputs clean
