# `make train` and `make test` set up all they need; see README.md.
PYTHON ?= python3
VENV ?= .venv
DATA ?=
ARGS ?=

# This environment's CUDA library, where there is nvcc, is for the GPU at hand, or without one for two
# that the tests look at. A wheel has code for all: see CONTRIBUTING.md.
export FACENET_EXT_CUDA_ARCHITECTURES ?= $(shell nvidia-smi -L >/dev/null 2>&1 \
  && echo native || echo "80-real;90a-real")

BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := $(shell find csrc cmake -type f) CMakeLists.txt pyproject.toml constraints.txt
CPP := csrc tests/emulation -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh'
PACKAGES := facenet_ext tests benchmarks docs examples
TESTS := --pyargs tests facenet_ext README.md docs examples

# The theme advertises its successor.
export NO_MKDOCS_2_WARNING := 1

.PHONY: train demo test test-all lint format docs docs-serve docs-pictures bench bench-use study gpu-check clean

train: $(VENV)/.train
	$(BIN)/python -m facenet_ext.train $(if $(DATA),--data $(DATA)) $(ARGS)

# Train, evaluate, verify, identify, cluster: with the bundled digits, or with DATA.
demo: $(VENV)/.train
	$(BIN)/python -m examples.demo $(DATA) $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(TESTS) -m "not slow" $(ARGS)

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest $(TESTS) $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/mypy
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
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) torch numpy scikit-build-core pybind11 cmake ninja
	@touch $@

$(VENV)/.train: $(VENV)/.base $(SOURCES)
	$(PIP) --no-build-isolation --editable '.[train]'
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	$(PIP) --no-build-isolation --editable '.[train,dev]'
	@touch $@

$(VENV)/.docs: $(VENV)/.train
	$(PIP) --no-build-isolation --editable '.[train,docs]'
	@touch $@

$(VENV)/.bench: $(VENV)/.train
	$(PIP) --no-build-isolation --editable '.[train,bench]'
	@touch $@
