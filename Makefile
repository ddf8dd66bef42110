# Two commands on a fresh machine: `make demo` and `make test`. Everything lives in .venv.
#
# PyTorch: only the CPU build is needed. Where the default index would serve a CUDA build (several GB), say
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
PYTHON36 ?= python3.6
PIP_ARGS ?=
# Processes that share the tests; each takes about a gigabyte, and the full-size model another two.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
OUT := demo

.PHONY: setup demo test python36 lint bench clean

setup: $(VENV)/.demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# One stamp per set of extras, so that a changed setup.cfg installs again and an unchanged one costs nothing.
$(VENV)/.demo: setup.cfg | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -e .
	touch $@

$(VENV)/.test: setup.cfg | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -e .[test,rtx]
	touch $@

$(VENV)/.dev: setup.cfg | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -e .[test,rtx,dev]
	touch $@

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py $(OUT)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# The Python of a Jetson Nano, under which the tests run a bundle's own runtime; without it those tests skip.
python36: .venv36/.stamp

.venv36/.stamp:
	$(PYTHON36) -m venv .venv36
	.venv36/bin/python -m pip install --quiet --upgrade "pip<22"
	.venv36/bin/python -m pip install --quiet $(PIP_ARGS) "numpy==1.19.5" "onnxruntime==1.10.0"
	touch $@

lint: $(VENV)/.dev
	$(BIN)/python -m flake8 ldmc tests examples benchmarks
	$(BIN)/python -m mypy

bench: $(VENV)/.demo
	$(BIN)/python benchmarks/compile_memory.py
	$(BIN)/python benchmarks/memory.py

clean:
	rm -rf $(VENV) .venv36 $(OUT) build *.egg-info
