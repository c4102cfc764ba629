# `make train` and `make test` set up all they need; see README.md.
PYTHON ?= python3
VENV ?= .venv
DATA ?=
ARGS ?=

# The CUDA library takes minutes to compile: it is built where there is a GPU, for that GPU, or where
# it is asked for, then for two that the tests look at. A wheel has code for all: see CONTRIBUTING.md.
GPU := $(shell nvidia-smi -L >/dev/null 2>&1 && command -v nvcc >/dev/null && echo yes)
export FACENET_EXT_CUDA ?= AUTO
export FACENET_EXT_CUDA_ARCHITECTURES ?= $(if $(GPU),native,80-real;90a-real)
ifeq ($(FACENET_EXT_CUDA),ON)
  BUILD := for the CPU and for CUDA ($(FACENET_EXT_CUDA_ARCHITECTURES)), as FACENET_EXT_CUDA=ON asks; some minutes
else ifeq ($(FACENET_EXT_CUDA)$(GPU),AUTOyes)
  BUILD := for the CPU and for the GPU of this machine; some minutes
else ifeq ($(FACENET_EXT_CUDA),OFF)
  BUILD := for the CPU alone, as FACENET_EXT_CUDA=OFF asks; about a minute
else
  BUILD := for the CPU alone: this machine has no NVIDIA GPU, or no nvcc (FACENET_EXT_CUDA=ON builds for one all the same); about a minute
endif

BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
# Python compiles a module when it is first imported: pip would compile all of torch.
PIP := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check \
  --constraint constraints.txt
SOURCES := $(shell find csrc cmake -type f) CMakeLists.txt pyproject.toml constraints.txt
CPP := csrc tests/emulation -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh'
PACKAGES := facenet_ext tests benchmarks docs examples
TESTS := --pyargs tests facenet_ext README.md docs examples

# The theme advertises its successor.
export NO_MKDOCS_2_WARNING := 1

.PHONY: train demo test test-ci test-all lint format docs docs-serve docs-pictures bench bench-input bench-use study gpu-check clean

train: $(VENV)/.train
	$(BIN)/python -m facenet_ext.train $(if $(DATA),--data $(DATA)) $(ARGS)

# Train, evaluate, verify, identify, cluster: with the bundled digits, or with DATA.
demo: $(VENV)/.train
	$(BIN)/python -m examples.demo $(DATA) $(ARGS)

# The tests run in as many processes as there are cores, each with one thread of OpenMP, which torch
# computes with. What CONTRIBUTING.md says of the three tiers is told apart by the marks.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test: $(VENV)/.dev
	$(PYTEST) $(TESTS) -m "not ci and not slow" $(ARGS)

test-ci: $(VENV)/.dev
	$(PYTEST) $(TESTS) -m "not slow" $(ARGS)

test-all: $(VENV)/.dev
	$(PYTEST) $(TESTS) $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	find $(CPP) | xargs $(BIN)/clang-format --dry-run --Werror

format: $(VENV)/.dev
	$(BIN)/ruff format $(PACKAGES)
	$(BIN)/ruff check --fix $(PACKAGES)
	find $(CPP) | xargs $(BIN)/clang-format -i

docs: $(VENV)/.docs
	$(BIN)/python -m mkdocs build --strict $(ARGS)

docs-serve: $(VENV)/.docs
	$(BIN)/python -m mkdocs serve $(ARGS)

# After a change of what a rule selects: the pictures are drawn from what the library does.
docs-pictures: $(VENV)/.train
	$(BIN)/python -m docs.pictures

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(ARGS)

# How images reach the batches: a part of `make bench`, in some ten minutes.
bench-input: $(VENV)/.bench
	$(BIN)/python -m benchmarks.input $(ARGS)

bench-use: $(VENV)/.train
	$(BIN)/python -m benchmarks.use $(ARGS)

# Hours, the more of them the fewer the cores; what is recorded already is not run again.
study: $(VENV)/.train
	$(BIN)/python -m benchmarks.study $(DATA) $(ARGS)

# On a machine with a GPU: with the torch, pytest and build tools of the Python that is there.
gpu-check:
	$(PYTHON) -m benchmarks.gpu $(ARGS)

clean:
	rm -rf build dist $(VENV)

# The environment, in steps that each remember themselves. The build tools come first, since the
# package is built without isolation, against the torch that it will run with.
$(VENV)/.base: constraints.txt
	@echo "== an environment in $(VENV), with torch and the build tools"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade pip
	@$(PIP) torch numpy scikit-build-core pybind11 cmake ninja
	@touch $@

$(VENV)/.train: $(VENV)/.base $(SOURCES)
	@echo "== facenet_ext, $(BUILD); with it what training needs: Lightning, kornia, matplotlib"
	@$(PIP) --no-build-isolation --editable '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	@echo "== what the tests and linters need"
	@$(PIP) --group dev
	@touch $@

$(VENV)/.docs: $(VENV)/.train
	@echo "== what the documentation needs"
	@$(PIP) --group docs
	@touch $@

$(VENV)/.bench: $(VENV)/.train
	@echo "== what the benchmarks compare with"
	@$(PIP) --group bench
	@touch $@
