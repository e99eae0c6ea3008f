# make bench    run the quick suite and write its report
# make test     run the tests             (make test ARGS="-m long" for the long ones)
# make lint     ruff and mypy
# make docs     the documentation as a site, in site/; fails on a broken link
# make install  install everything that bench.run and bench.report need
# make clean    remove the environment and caches; results stay
#
# Each installs what it needs into .venv first, once, and again when pyproject.toml or constraints.txt changes.
# PYTHON=python3.12       the Python that .venv is made from (3.11 or newer)
# TORCH_INDEX=https://download.pytorch.org/whl/cpu
#                         take torch from there; on Linux the default is a CUDA build of several GB

PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
# Most of what is installed is never imported, and Python compiles what is: compiling all of it takes as long as installing it.
INSTALL := $(PY) -m pip --disable-pip-version-check -q install --no-compile
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)

# A stamp is touched only after its installation succeeded, so a broken one is tried again.
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
INSTALLED_DOCS := $(VENV)/.installed-docs

.PHONY: bench install test lint docs clean

bench: $(INSTALLED)
	$(PY) -m bench.run suites/quick.yaml
	$(PY) -m bench.report results/quick
	@echo
	@echo "Records  results/quick/records.parquet"
	@echo "Report   results/quick/report.html: open it in a browser"
	@echo "Next     source $(VENV)/bin/activate; python -m bench.run suites/mamujoco.yaml --results elsewhere --dry-run   # what the comparison costs"

install: $(INSTALLED)

# Tests start some hundred processes, each of which would compile the project anew where Python may not keep what it compiled.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(INSTALLED_DEV)
	$(PY) -m pytest -n auto --dist worksteal $(ARGS)

lint: $(INSTALLED_DEV)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: $(INSTALLED_DOCS)
	$(PY) -m mkdocs build --strict

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site

# torch goes first, by its exact version and, from an index of its own, without the dependencies that such an index may hold in
# other versions than constraints.txt: the second line brings them.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PY) -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || { \
	  "$(PYTHON)" -c 'pass' || { echo "Cannot run '$(PYTHON)'. Install Python 3.11 or newer, or name it: make PYTHON=python3.12 ..." >&2; exit 1; }; \
	  "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or newer is needed, but '$(PYTHON)' is $$("$(PYTHON)" -V 2>&1). Name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }; \
	  "$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "'$(PYTHON)' cannot make virtual environments. On Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; }; \
	  echo "Making $(VENV) with $$("$(PYTHON)" -V)"; \
	  "$(PYTHON)" -m venv --clear $(VENV); \
	  $(INSTALL) --upgrade pip || echo "Going on with the pip that came with Python, which takes longer."; }
	@echo "Installing torch $(TORCH) and the project into $(VENV): takes some minutes the first time, and pip is quiet meanwhile."
	@if [ -z "$(TORCH_INDEX)" ] && [ "$$(uname -s)" = Linux ]; then \
	  echo "(No GPU? TORCH_INDEX=https://download.pytorch.org/whl/cpu saves a CUDA download of several GB.)"; fi
	@$(INSTALL) -c constraints.txt $(if $(TORCH_INDEX),--no-deps --index-url "$(TORCH_INDEX)") "torch==$(TORCH)"
	@$(INSTALL) -c constraints.txt -e .
	@touch $@

$(INSTALLED_DEV): $(INSTALLED)
	@echo "Installing the development tools into $(VENV)."
	@$(INSTALL) -c constraints.txt -e '.[dev]'
	@touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	@echo "Installing the documentation tools into $(VENV)."
	@$(INSTALL) -c constraints.txt -e '.[docs]'
	@touch $@
