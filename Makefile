# Two environments, as in production: the platform's (.venv) and the example projects' (examples/.venv). A third is a
# data scientist's, in which the tests' notebooks run (tests/notebooks/.venv): nothing of trilho's is in it.
PYTHON ?= python3
PIP := -m pip --disable-pip-version-check --quiet
PYTEST_ARGS ?= -n 2 --dist loadfile --timeout 300

.PHONY: demo test lint check bench docs clean lock notebooks
.DEFAULT_GOAL := help

help:
	@echo "make demo       install what is needed and run the whole line on two real models (under 3 minutes once installed)"
	@echo "make test       install what is needed and run the tests"
	@echo "make notebooks  install what the tests' notebooks need"
	@echo "make lint       ruff, mypy, import-linter"
	@echo "make bench      timings, as ratios against a baseline in the same run (TRILHO_BENCH_SERVERS=DIR: beside other servers)"
	@echo "make docs       renew docs/reference.md from the code"
	@echo "make lock       renew the hashed locks in requirements/ (needs uv)"

.venv/.platform: requirements/platform.lock pyproject.toml runtime/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "trilho needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) install --require-hashes --no-deps -r requirements/platform.lock
	.venv/bin/python $(PIP) install --no-deps --no-build-isolation --editable runtime --editable .
	@touch $@

.venv/.dev: requirements/dev.lock .venv/.platform
	.venv/bin/python $(PIP) install --require-hashes --no-deps -r requirements/dev.lock
	.venv/bin/python $(PIP) check
	@touch $@

examples/.venv/.project: requirements/project.lock runtime/pyproject.toml
	$(PYTHON) -m venv examples/.venv
	examples/.venv/bin/python $(PIP) install --require-hashes --no-deps -r requirements/project.lock
	examples/.venv/bin/python $(PIP) install --no-deps --no-build-isolation --editable runtime
	@touch $@

tests/notebooks/.venv/.notebooks: requirements/notebooks.lock
	$(PYTHON) -m venv tests/notebooks/.venv
	tests/notebooks/.venv/bin/python $(PIP) install --require-hashes --no-deps -r requirements/notebooks.lock
	@touch $@

notebooks: tests/notebooks/.venv/.notebooks

demo: .venv/.platform examples/.venv/.project
	.venv/bin/trilho demo

test: .venv/.dev examples/.venv/.project tests/notebooks/.venv/.notebooks
	.venv/bin/python -m pytest $(PYTEST_ARGS)
	cd examples/bike-demand && ../.venv/bin/python -m pytest -q
	cd examples/flight-delay && ../.venv/bin/python -m pytest -q

lint: .venv/.dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy src runtime/src tests benchmarks
	.venv/bin/lint-imports --no-cache

bench: .venv/.dev examples/.venv/.project
	unset PYTHONDONTWRITEBYTECODE; .venv/bin/python -m compileall -q src runtime/src && \
	  TRILHO_BENCH_SERVERS=$${TRILHO_BENCH_SERVERS:-none} .venv/bin/python -m benchmarks

docs: .venv/.platform
	.venv/bin/python -m trilho.cli.reference docs/reference.md

lock:
	for name in platform dev project notebooks; do \
	  uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-emit-index-url \
	    requirements/$$name.in -o requirements/$$name.lock; done

clean:
	rm -rf .venv examples/.venv tests/notebooks/.venv .trilho-demo .mypy_cache .ruff_cache .pytest_cache
