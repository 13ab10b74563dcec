# The one entry point. `make` or `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/bonafide-localcluster
TARGET := $(or $(CARGO_TARGET_DIR),target)
LOCALCLUSTER := $(TARGET)/release/localcluster

.PHONY: help demo test test-unit sim test-cluster test-e2e test-back test-vllm campaign lint fmt deny generate build image bench bench-status up down clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Everything once, on real Kubernetes: sign, serve, ask, tamper, refuse (DEBUG_BUILD=1 builds faster; KEEP=1 leaves the cluster; KUBECONFIG and REGISTRY: yours)
	@./localcluster/demo.sh

test: ## Every tier of tests
	@./localcluster/prepare.sh
	cargo test --workspace

test-unit: ## Pure steps, golden files, CEL in the library, the simulation: no cluster
	cargo test -p bonafide --lib
	cargo test -p bonafide --test it -- golden drift cel:: lint:: gitops::argo gitops::the_chart conformance:: sim:: tamper::ours

SEEDS ?= 1000
sim: ## The simulation, thoroughly: killed before and after every write, SEEDS=1000 runs under faults by chance
	THOROUGH=1 SEEDS=$(SEEDS) cargo test --profile sim -p bonafide --test it -- sim::

test-cluster: ## Against a real API server, without nodes
	@./localcluster/prepare.sh
	cargo test -p bonafide --test it -- cluster::

test-e2e: ## Against real pods: needs root
	@./localcluster/prepare.sh
	cargo test -p bonafide --test it -- e2e

test-back: ## From each kept release to this one and back, with the programs of those releases built from the history
	@./localcluster/prepare.sh
	BONAFIDE_RELEASES="$$(./tests/releases.sh)" cargo test -p bonafide --test it -- cluster::upgrade --nocapture

test-vllm: ## A real vLLM on the CPU in real pods: needs root, fetches 0.9 GB once, takes half an hour
	@./localcluster/prepare.sh
	@cargo run -q -p localcluster -- asset vllm-image >/dev/null
	BONAFIDE_TEST_VLLM=1 cargo test -p bonafide --test it -- vllm:: --nocapture

campaign: ## Everything dies at random for five minutes while twenty objects change (CAMPAIGN_SECONDS, CAMPAIGN_SEED)
	@./localcluster/prepare.sh
	CAMPAIGN_SECONDS=$${CAMPAIGN_SECONDS:-300} CAMPAIGN_SEED=$${CAMPAIGN_SEED:-$$(date +%s)} \
	  cargo test -p bonafide --test it -- cluster::campaign --nocapture

lint: ## Formatting, clippy with warnings denied
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

deny: ## Licences, duplicates and sources of all dependencies
	@command -v cargo-deny >/dev/null || cargo install --locked --quiet --version 0.20.2 cargo-deny
	cargo deny --log-level error check licenses bans sources

fmt: ## Format the code
	cargo fmt --all

generate: ## Write generated files anew: CRDs, their copies in the chart, golden files
	cargo run -q -- crd --out crds
	cp crds/*.yaml charts/bonafide/files/crds/
	UPDATE_GOLDEN=1 cargo test -p bonafide --lib -q golden
	UPDATE_GOLDEN=1 cargo test -p bonafide --test it -q -- golden drift cluster::chart::what_the_chart_renders tamper::

build: ## The optimised binaries
	cargo build --release --workspace --bins

image: build ## The operator's image as an OCI archive, target/bonafide-image.tar
	$(LOCALCLUSTER) image build --name localhost/bonafide:dev --out $(TARGET)/bonafide-image.tar \
	  --add $(TARGET)/release/bonafide=/bonafide --add "$$(./helper/build.sh)"=/bonafide-helper --entrypoint '["/bonafide"]'

bench: ## Every benchmark, beside its peer, as a table and target/bench/*.json
	@./benches/run.sh

bench-status: ## Seconds from the cause to the condition, for each reason, on a real control plane (RUNS=3)
	@./localcluster/prepare.sh
	cargo test -q -p bonafide --test it -- --ignored --nocapture --exact cluster::reasons::bench_status

bench-%: ## One of them: bench-verify, bench-trust, bench-fetch, bench-manager, bench-scale, bench-size
	@./benches/run.sh $*

up: build ## A local Kubernetes with one node, until `make down`
	@$(LOCALCLUSTER) up

down: ## End the local Kubernetes
	@if [ -x $(LOCALCLUSTER) ]; then $(LOCALCLUSTER) down; else cargo run -q -p localcluster -- down; fi

clean: ## Remove what was built here (the cache of Kubernetes' programs stays in ~/.cache/bonafide-localcluster)
	cargo clean
