# make study    run every notebook headlessly; executed notebooks, tables, figures, one HTML report
# make test     lint, type check, unit tests, notebook tests
# make lab      open the study in JupyterLab
# make docs     the site as HTML: runs/docs/index.html
# make findings the tables of verdicts and of adaptation in pages, from figures/*.csv
# Every target makes .venv when it is missing and reinstalls only when pyproject.toml changed.
SHELL  := /bin/bash
PYTHON ?= python3
# options of JupyterLab: make lab LAB='--no-browser --port 9999'
LAB    ?=
BIN    := .venv/bin
# Stored outputs are compared where a cell says so.
NBVAL  := --nbval-lax --nbval-cell-timeout 600 -p no:cacheprovider
# Two processes of one thread each: faster here than one of two, and as `make study` runs.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help .venv study test unit nbval bf16 test-all lint lab docs findings notebooks bench clean

help:
	@sed -n '1,6s/^# \?//p' Makefile
	@echo "also: .venv unit nbval bf16 test-all lint notebooks bench clean"

.venv: .venv/installed

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info[:2] <= (3, 13); \
	  sys.exit(None if ok else f"Python 3.11 to 3.13 is needed, {sys.executable} is {sys.version.split()[0]}; say make PYTHON=python3.12 …")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cluster,dev,frost,pretrained]'
	@touch $@

study: .venv
	$(BIN)/python -m tttlib study

# The notebooks' starts as they are, and whole ones at small size: tests/notebook_copies.py
test: lint
	$(BIN)/python tests/notebook_copies.py runs/nbval
	$(PYTEST) tests $(NBVAL) runs/nbval

unit: .venv
	$(PYTEST) tests

# The whole notebooks with their own defaults: about as long as `make study`.
nbval: .venv
	$(PYTEST) $(NBVAL) notebooks

# What depends on whether bfloat16 pays, as on a processor with such units and on one without.
bf16: .venv
	for forced in 0 1; do TTTLIB_BF16=$$forced $(PYTEST) -q \
	  tests/models/test_training.py tests/bench/test_bench_ttt.py tests/runtime || exit 1; done

test-all: .venv lint
	$(BIN)/python -m pytest -m ''
	$(BIN)/python -m pytest $(NBVAL) notebooks

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: .venv
	$(BIN)/jupyter lab $(LAB) notebooks/01_distribution_shift_pca.ipynb

# Executes the notebooks in place, so that what is committed shows what the code prints today.
notebooks: .venv
	$(BIN)/python -m jupyter nbconvert --to notebook --execute --inplace \
	  --ExecutePreprocessor.record_timing=False notebooks/0*.ipynb
	$(BIN)/python docs/smaller_pictures.py notebooks/0*.ipynb

bench: .venv
	$(BIN)/python -m tttlib bench

docs: .venv
	rm -rf runs/pages runs/docs && mkdir -p runs/pages
	$(BIN)/python -m sphinx -q -j auto -W -c docs -d runs/pages/.doctrees runs/pages runs/docs
	@echo "runs/docs/index.html"

findings: .venv
	$(BIN)/python docs/findings.py

clean:
	rm -rf .venv runs build dist .pytest_cache .mypy_cache .ruff_cache
