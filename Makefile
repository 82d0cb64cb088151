# Needs Python >= 3.11 and pip, nothing else. `make demo` shows what nearward does; `make test` is what CI runs.

PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test lint docs bench links clean

demo: .venv/.installed
	$(BIN)/nearward demo

test: lint
	$(BIN)/pytest -n 2 --dist loadfile  # a file stays in one process: fitted models are shared within it

lint: .venv/.installed-dev links
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: .venv/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: .venv/.installed-dev
	$(BIN)/python -m benchmarks.risk.run

# The stamps: nothing is installed again until pyproject.toml changes.
.venv/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("nearward needs Python >= 3.11: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --editable .
	touch $@

.venv/.installed-dev: .venv/.installed
	$(BIN)/python -m pip install --editable '.[catboost,tabpfn,tabicl,sdv,distributed,imbalanced,files,dev]'
	touch $@

.venv/.installed-docs: .venv/.installed
	$(BIN)/python -m pip install --editable '.[docs]'
	touch $@

# setuptools maps tabular/ to nearward.tabular, which mypy can't follow: it reads the package as these links lay it out.
links:
	rm -rf .links
	mkdir -p .links/nearward
	ln -s $(addprefix ../../,$(filter-out %__pycache__,$(wildcard nearward/*)) tabular retrieval synth evaluation) .links/nearward/

# Leaves .venv (remove it to start afresh) and out/, where the benchmark keeps its predictions.
clean:
	rm -rf docs/_build docs/auto_examples docs/api_of docs/api.rst docs/changelog.markdown docs/sg_execution_times.rst
	rm -rf .links .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
