# Every target makes .venv when it is missing or pyproject.toml has changed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test pytest test-slow test-gpu test-cluster lint bench bench-full bench-gpu tensorboard clean

run: .venv/installed
	$(BIN)/python scripts/run.py experiments/cats_dogs_finetune.py

test: .venv/installed
	$(MAKE) --no-print-directory -j2 lint pytest  # the type checker uses one core

pytest: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4

test-slow: .venv/formats
	$(BIN)/python -m pytest -m slow

test-gpu: .venv/installed
	$(BIN)/python -m pytest -m gpu -rs

test-cluster: .venv/installed  # as root, on Debian: starts a Slurm of two nodes on this machine, and stops it
	command -v slurmctld munged >/dev/null || apt-get install --yes --no-install-recommends slurm-wlm munge
	$(BIN)/python -m pytest -m cluster -rs

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

bench: .venv/bench
	$(BIN)/python benchmarks/run.py

bench-full: .venv/bench
	$(BIN)/python benchmarks/run.py --full

bench-gpu: .venv/bench
	$(BIN)/python benchmarks/gpu.py

tensorboard: .venv/installed
	$(BIN)/tensorboard --logdir runs

clean:
	rm -rf .venv .cache .pytest_cache .ruff_cache .hypothesis

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Leyden needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	@echo "installing into .venv: a few minutes and about 6 GB, once"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[offline,loggers,deploy,explain,search,dev]'
	@$(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null || true  # on all cores, pip on one; some files are no Python
	touch $@

.venv/formats: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[formats]'
	touch $@

.venv/bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@
