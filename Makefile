# Two commands set everything up on a fresh machine: `make serve` and `make test`.
SHELL := /bin/bash
PYTHON ?= python3
PORT ?= 3000
VENV := .venv
BIN := $(VENV)/bin
export BENTOML_DO_NOT_TRACK := True
export TOKENIZERS_PARALLELISM := false
INSTALLED := $(VENV)/.installed

.PHONY: help setup fleet serve test test-gpu check fix bench bench-fraud bench-past bench-peers bench-router bench-cascade bench-decide bench-canary bench-feature-routing bench-generation bench-guessing bench-coldstart bench-gateway-start bench-optimize bench-bulk bench-fleet build clean

help:  ## Show this help
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(INSTALLED): pyproject.toml requirements/constraints.txt
	@echo "==> installing into $(VENV) (a few minutes on the first run)"
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Turnout needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	$(BIN)/pip install -q --disable-pip-version-check --upgrade pip setuptools wheel
	@echo "==> 1/3 torch"
	$(BIN)/pip install -q --disable-pip-version-check -c requirements/constraints.txt torch==2.13.0 numpy
	@echo "==> 2/3 serving, building and development tools"
	$(BIN)/pip install -q --disable-pip-version-check -c requirements/constraints.txt -e '.[serve,bulk,postgres,llm,build,dev]'
	@echo "==> 3/3 deepspeed"
	DS_BUILD_OPS=0 $(BIN)/pip install -q --disable-pip-version-check -c requirements/constraints.txt --no-build-isolation deepspeed
	@touch $@

setup: $(INSTALLED)  ## Install everything and build every model, without serving
	@$(BIN)/turnout models build

fleet: $(INSTALLED)  ## Build the 75 models of the shop (catalog/ecommerce.yaml), with progress
	@$(BIN)/turnout models build --catalog catalog/ecommerce.yaml

serve: $(INSTALLED)  ## Build what is missing, start the gateway, show the first answer
	@PORT=$(PORT) $(BIN)/turnout serve

test: setup  ## Run every test
	$(BIN)/python -m pytest

test-gpu: $(INSTALLED)  ## Everything that needs an NVIDIA GPU (and onnxruntime-gpu, TensorRT)
	$(BIN)/python -m pytest -m gpu -ra

check: $(INSTALLED)  ## Lint, format, types and import rules; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/turnout catalog check catalog/default.yaml
	$(BIN)/turnout catalog check catalog/hybrid.yaml
	$(BIN)/turnout catalog check catalog/ecommerce.yaml

fix: $(INSTALLED)  ## Fix what can be fixed by machine
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/turnout catalog schema --out catalog/schema.json

bench-coldstart: setup  ## Process start to first correct answer, against torch
	$(BIN)/python -m benchmarks.coldstart --variants --json benchmarks/results/coldstart.json $(if $(IMAGE),--image $(IMAGE)) $(if $(IMAGES),--images $(IMAGES))

bench: bench-fraud bench-router bench-cascade bench-decide bench-canary bench-generation bench-guessing bench-coldstart bench-gateway-start bench-optimize bench-bulk bench-fleet  ## Every benchmark

bench-fraud: setup  ## Card transactions: 1,000/s, the knee, overload, CPU beside a bare handler; beside bulk
	$(BIN)/python -m benchmarks.fraud --knee --bare --overload --json benchmarks/results/fraud.json
	$(BIN)/python -m benchmarks.two_paths --json benchmarks/results/two_paths.json

bench-past: setup  ## Fraud, cold start and gateway start beside an earlier commit: COMMIT=8e08678
	$(BIN)/python -m benchmarks.past --knee $(if $(COMMIT),--commit $(COMMIT)) --json benchmarks/results/past.json

bench-peers: setup  ## The same model behind FastAPI, BentoML alone, LitServe, MLServer and Ray Serve
	$(BIN)/python -m benchmarks.peers --json benchmarks/results/peers.json

bench-bulk: setup  ## Batches: rows a second beside direct calls, and 20 times kill -9
	$(BIN)/python -m benchmarks.bulk --kills 20 --json benchmarks/results/bulk.json

bench-cascade: setup  ## Accuracy of an image cascade: make bench-cascade IMAGES=DIR
	$(BIN)/python -m benchmarks.cascade --images $(IMAGES) --json benchmarks/results/cascade.json

bench-decide: $(INSTALLED)  ## CPU of one decision
	$(BIN)/python -m benchmarks.decide --json benchmarks/results/decide.json

bench-canary: $(INSTALLED)  ## How soon a bad canary is gone, how often a good one is taken back
	$(BIN)/python -m benchmarks.canary --json benchmarks/results/canary.json

bench-feature-routing: setup  ## Does a look at rows or pictures pay: TRANSACTIONS=FILE IMAGES=DIR
	$(BIN)/python -m benchmarks.feature_routing --transactions $(TRANSACTIONS) $(if $(IMAGES),--images $(IMAGES)) --json benchmarks/results/feature_routing.json

bench-router: setup  ## Routing quality on recorded outcomes: make bench-router DATA=DIR
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.router --data $(DATA) --jobs $$(nproc) --json benchmarks/results/router.json

bench-fleet: fleet  ## The shop's models in one process under a third of their memory, beside LRU and processes
	$(BIN)/python -m benchmarks.fleet --fault --json benchmarks/results/fleet.json

bench-optimize: setup  ## Passes and their gate over the default models: IMAGES=labelled folder
	$(BIN)/python -m benchmarks.optimize --json benchmarks/results/optimize.json $(if $(IMAGES),--images $(IMAGES))

bench-gateway-start: setup  ## The gateway's start beside bentoml serve of a trivial service
	$(BIN)/python -m benchmarks.gateway_start --json benchmarks/results/gateway_start.json

bench-generation: setup  ## Tokens a second and time to first token, beside transformers
	$(BIN)/turnout models build --catalog benchmarks/generation.yaml
	$(BIN)/python -m benchmarks.generation --json benchmarks/results/generation.json

bench-guessing: setup  ## Guessing ahead by lookup: tokens a second with and without
	$(BIN)/turnout models build --catalog benchmarks/generation.yaml
	$(BIN)/python -m benchmarks.guessing --json benchmarks/results/guessing.json

build: setup  ## Build the gateway's Bento, models included
	$(BIN)/bentoml build

clean:  ## Remove the environment and everything built
	rm -rf $(VENV) var
