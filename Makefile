# make demo | make test | make check | make test-all | make test-cpus | make dist
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# files of tests on two processes; PARALLEL= runs them one after another
PARALLEL ?= -n 2 --dist loadfile

.PHONY: demo test test-all test-cpus check dist clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	$(BIN)/w2s-fast demo

test: check
	$(BIN)/python -m pytest $(PARALLEL)

test-all: check
	$(BIN)/python -m pytest $(PARALLEL) -m "slow or not slow"

# the suite as other processors would run it: without vector instructions, with 256 bits, with all that there is
test-cpus: $(VENV)/.dev
	for cpu in "default SSE41 1" "avx2 AVX2 2" "avx512 DEFAULT 1"; do set -- $$cpu; \
	  echo "ATEN_CPU_CAPABILITY=$$1 ONEDNN_MAX_CPU_ISA=$$2 OMP_NUM_THREADS=$$3"; \
	  ATEN_CPU_CAPABILITY=$$1 ONEDNN_MAX_CPU_ISA=$$2 OMP_NUM_THREADS=$$3 $(BIN)/python -m pytest -q $(PARALLEL) || exit 1; \
	done

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/python .ci/file_sizes.py
	$(BIN)/pyright
	$(BIN)/pyright -p .ci/pyright-strict.json

# eight minutes on a GPU; GPU_OUT is written anew as each stage ends
GPU_OUT ?= benchmarks/results/gpu.json
gpu:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) benchmarks/gpu.py --out $(GPU_OUT)

dist: $(VENV)/.dev
	$(BIN)/python -m build

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "w2s_fast needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "no venv module here; on Debian: apt-get install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) dist build *.egg-info
