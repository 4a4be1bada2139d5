# Two commands do all: `make quickstart` and `make test`. Each sets up what it needs in .venv first.

VENV   ?= .venv
LOCK   ?= cpu
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN    := $(VENV)/bin
MODELS ?= models
RUNS   ?= runs
REPORT ?= report
THREADS ?= 1
SYSTEM := chromium texlive-latex-base texlive-latex-recommended

.PHONY: help install quickstart leaderboard system check lint test stress bench lock clean

help:
	@echo "make quickstart   set up, make a tiny model, evaluate it and the baselines on TALLRec, print a leaderboard"
	@echo "make leaderboard  set up, make a model for each paper, evaluate all beside baselines, write the project's tables; an hour"
	@echo "make test         set up and run everything: format, lint, types, all tests"
	@echo "make system       a browser and LaTeX for the tests, where apt-get can install them"
	@echo "make check        format, lint, types and the quick tests, in under a minute"
	@echo "make install      set up only; LOCK=gpu for CUDA"
	@echo "make stress       long kill and scale campaigns"
	@echo "make bench        speed, as ratios measured side by side"

install: $(VENV)/.installed-$(LOCK)

$(VENV)/.locked-$(LOCK): requirements/$(LOCK).txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "the lock files are for CPython 3.11, and $(PYTHON) is another: say make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@rm -f $(VENV)/.locked-* $(VENV)/.installed-*
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -r requirements/$(LOCK).txt
	@$(BIN)/python -c 'import torch' 2>/dev/null || { $(BIN)/python -m pip uninstall --quiet --yes torch; \
		echo "PyTorch does not import: with LOCK=cpu, pip must find the CPU build of torch; see 'The CPU build of PyTorch' in README.md, then run make again"; exit 1; }
	@touch $@

$(VENV)/.installed-$(LOCK): $(VENV)/.locked-$(LOCK) pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

quickstart: install
	$(BIN)/harness data verify ml-100k
	$(BIN)/harness tune --task tallrec --from-scratch tiny --out $(MODELS)/tiny
	$(BIN)/harness run --task tallrec --model vllm:$(MODELS)/tiny --runs $(RUNS)
	@for name in random constant like-rate recency popularity item-mean; do \
		$(BIN)/harness run --task tallrec --model simple:$$name --runs $(RUNS) || exit 1; done
	$(BIN)/harness leaderboard --runs $(RUNS) --out $(REPORT)

leaderboard: install
	$(BIN)/harness data verify ml-100k
	$(BIN)/python -m leaderboard.project --models $(MODELS) --runs $(RUNS)/project --threads $(THREADS)

# Tests open the leaderboard's page in a browser and compile its tables; without these two they are skipped.
system:
	@{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null && \
		kpsewhich booktabs.sty >/dev/null && exit; \
	root=$$([ "$$(id -u)" = 0 ] || echo sudo -n); \
	command -v apt-get >/dev/null && $$root true 2>/dev/null && $$root apt-get update -qq && \
		$$root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(SYSTEM) || \
		echo "the tests of the leaderboard's page and LaTeX need Chromium and pdflatex; on Debian: apt-get install $(SYSTEM)"

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Compiled tests are kept whatever the environment says, or every run would compile them anew.
check: lint
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -q -n 2 --dist worksteal -m "not slow and not stress"

test: system check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "slow and not stress" -o timeout=1800 --durations=15

stress: install
	$(BIN)/pytest -m stress --durations=0

bench: install
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.metrics
	$(BIN)/python -m benchmarks.stream
	$(BIN)/python -m benchmarks.ray_records
	$(BIN)/python -m benchmarks.grid
	$(BIN)/python -m benchmarks.spelling
	$(BIN)/python -m benchmarks.pointwise
	$(BIN)/python -m benchmarks.encoder_reuse
	$(BIN)/python -m benchmarks.bootstrap
	$(BIN)/python -m benchmarks.gate
	$(BIN)/python -m benchmarks.sequential --dataset ml-100k
	$(BIN)/python -m benchmarks.recbole_training --model SASRec
	$(BIN)/python -m benchmarks.recbole_training --model GRU4Rec

# LOCK=cpu needs uv to find the CPU build of PyTorch (UV_INDEX or UV_FIND_LINKS), LOCK=gpu needs it not to.
lock:
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --disable-pip-version-check --quiet uv
	cp requirements/$(LOCK).txt $(VENV)/lock/resolved.txt  # uv keeps the versions that it finds here where it can
	$(VENV)/lock/bin/uv pip compile pyproject.toml --extra $(LOCK) --extra baselines --extra quantized --extra ray --extra dev --quiet \
		--python-version 3.11 --python-platform x86_64-manylinux_2_35 --override requirements/overrides-$(LOCK).txt \
		--no-annotate --no-header -o $(VENV)/lock/resolved.txt
	{ sed -n 1p requirements/$(LOCK).txt; sed 's/+cpu$$//' $(VENV)/lock/resolved.txt; } > $(VENV)/lock/whole.txt
	mv $(VENV)/lock/whole.txt requirements/$(LOCK).txt

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
