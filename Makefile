# Needs Python 3.11 or later, pip and make. `make demo` and `make test` stand alone on a fresh clone.
# Where uv is on the PATH it installs, in a tenth of the time.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
FUZZ_SECONDS ?= 60
MINUTES ?= 10
BIN := $(VENV)/bin

# Where Python is told to keep nothing that it compiled, every process of the tests compiles anew what
# it imports: a thousand modules in pytest, and all of runstore in a step's process.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test newest coverage bench lint docs fuzz explore clean

UV := $(shell command -v uv)
ifeq ($(UV),)
MAKE_VENV = $(PYTHON) -m venv $(VENV)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
else
MAKE_VENV = UV_VENV_CLEAR=1 $(UV) venv --quiet --seed --python $(PYTHON) $(VENV)
INSTALL = $(UV) pip install --quiet --python $(BIN)/python
endif

# Made anew when the project's dependencies change; quiet unless it fails.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "runstore needs Python 3.11 or later; this is %s. Try: make PYTHON=python3.12" % sys.version.split()[0])'
	@echo "Installing into $(VENV) ..."
	@$(MAKE_VENV)
	@$(INSTALL) -e .
	@touch $@

# What only developers need: most of the time of an installation.
$(VENV)/.dev: $(VENV)/.installed
	@echo "Installing what the tests need ..."
	@$(INSTALL) -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed  ## a run that fails, the plan, the fix, the retry: on your own Python
	@$(BIN)/python examples/census/demo.py

test: $(VENV)/.dev  ## every test, on every core
	@$(BIN)/python -m pytest -q -n auto --dist loadfile --timeout 300

# The newest Python that is on the PATH, or in pyenv's folder; none is no failure.
NEWEST ?= $(firstword $(foreach name,python3.14 python3.13 python3.12,$(shell $(name) -c '' 2>/dev/null && command -v $(name))) \
	$(lastword $(sort $(wildcard $(PYENV_ROOT)/versions/3.1[2-9]*/bin/python))))

newest:  ## the tests that need no server, on the newest Python that is here
ifeq ($(strip $(NEWEST)),)
	@echo "There is no Python newer than $(PYTHON) here: nothing to test on it."
else
	@echo "On $(NEWEST) ..."
	@$(NEWEST) -m venv $(VENV)-newest
	@$(VENV)-newest/bin/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@$(VENV)-newest/bin/python -m pytest -q -n auto --dist loadfile --timeout 300 tests/planning tests/store tests/test_*.py
endif

coverage: $(VENV)/.dev  ## which lines no test runs: a report in build/coverage
	@$(INSTALL) 'pytest-cov>=6.0'
	@$(BIN)/python -m pytest -q -n auto --dist loadfile --timeout 600 --cov=runstore --cov-branch \
		--cov-report=html:build/coverage --cov-report=term:skip-covered

bench: $(VENV)/.dev  ## what it costs, against floors measured in the same run
	@$(BIN)/python -m benchmarks

lint: $(VENV)/.dev  ## style, types, import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

$(VENV)/.docs: $(VENV)/.installed
	@$(INSTALL) -e '.[docs]'
	@touch $@

docs: $(VENV)/.docs  ## the pages as a site, in build/site; a dead link fails
	@$(BIN)/python docs/make_api.py
	@$(BIN)/python -m sphinx -W --keep-going -q -E -b html -c docs . build/site

fuzz: $(VENV)/.dev  ## a minute of hostile imports, where atheris has a wheel
	@$(INSTALL) --only-binary atheris -e '.[fuzz]'
	@$(BIN)/python -m tests.fuzz.fuzz_import -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1

explore: $(VENV)/.dev  ## properties with new seeds, over and over
	@$(BIN)/python -m tests.explore --minutes $(MINUTES)

clean:
	rm -rf $(VENV) $(VENV)-newest build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
