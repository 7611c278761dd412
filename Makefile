# Everything runs in .venv, which is made by the first target that needs it.
#
#   make test PYTHON=python3.11     choose the Python that .venv is made with
#   make reproduce ARGS='--seed 1'  hand further arguments on
#
# Written for GNU make 3.81 (macOS) and for paths with spaces: every path here is relative.

PYTHON ?= python3
ARGS ?=
VENV_PYTHON := .venv/bin/python
PIP_INSTALL := PYTHONWARNINGS=ignore $(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check
# Where the Python behind .venv has gone, forget what was installed, so that .venv is made anew.
_ := $(shell $(VENV_PYTHON) -c '' 2>/dev/null || rm -f $(VENV_PYTHON) .venv/installed-*)
ENSURE_PIP := $(VENV_PYTHON) -c 'import pip' 2>/dev/null || $(VENV_PYTHON) -m ensurepip
SOURCES := setup.py d2l_deeprnn tests $(wildcard benchmarks notebooks/*.py)

help:
	@echo 'make reproduce   train the chapter'\''s model and compare with the book, into reproduction/'
	@echo 'make test        run the tests; real books are looked for in $$D2L_DEEPRNN_DATA'
	@echo 'make test-slow   run the tests that take minutes'
	@echo 'make notebooks   execute the notebooks, in place (ARGS=--quick: a few epochs, nothing saved)'
	@echo 'make lint        check rules, format and types'
	@echo 'make format      put right what can be put right by itself'
	@echo 'make clean       remove .venv, reproduction/ and what the tools left'
	@echo 'PYTHON=...       the Python to make .venv with (3.8 to 3.13)'
	@echo 'ARGS=...         further arguments for reproduce or pytest'

# Status 3: the book's text could not be had, so nothing was compared. That is no failure of make.
reproduce: .venv/installed-base
	@status=0; \
	$(VENV_PYTHON) -m d2l_deeprnn reproduce --corpus auto --out reproduction $(ARGS) || status=$$?; \
	if [ $$status -eq 3 ]; then \
	    echo 'make: the book'\''s text could not be had; the sample text was used and nothing was compared.'; \
	else \
	    exit $$status; \
	fi

test: .venv/installed-test
	$(VENV_PYTHON) -m pytest $(ARGS)

test-slow: .venv/installed-test
	$(VENV_PYTHON) -m pytest -m 'slow and not gpu' --timeout 3600 $(ARGS)

notebooks: .venv/installed-notebooks
	$(VENV_PYTHON) notebooks/execute.py $(ARGS)

lint: .venv/installed-test
	$(VENV_PYTHON) -m ruff check $(SOURCES)
	$(VENV_PYTHON) -m ruff format --check $(SOURCES)
	$(VENV_PYTHON) -m mypy

format: .venv/installed-test
	$(VENV_PYTHON) -m ruff format $(SOURCES)
	$(VENV_PYTHON) -m ruff check --fix $(SOURCES)

clean:
	rm -rf .venv reproduction build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find d2l_deeprnn tests -name __pycache__ -type d -prune -exec rm -rf {} +

METADATA := setup.py pyproject.toml d2l_deeprnn/_version.py

.venv/installed-base: $(VENV_PYTHON) $(METADATA)
	@$(VENV_PYTHON) -c "$$CHECK_PLATFORM"
	@$(ENSURE_PIP)
	@echo 'Installing d2l_deeprnn into .venv ...'
	@$(PIP_INSTALL) --editable .
	@touch $@

.venv/installed-test: $(VENV_PYTHON) $(METADATA)
	@$(VENV_PYTHON) -c "$$CHECK_PLATFORM"
	@$(ENSURE_PIP)
	@echo 'Installing d2l_deeprnn and what its tests need into .venv ...'
	@$(PIP_INSTALL) --editable '.[test]'
	@touch $@ .venv/installed-base

.venv/installed-notebooks: $(VENV_PYTHON) $(METADATA)
	@$(VENV_PYTHON) -c "$$CHECK_PLATFORM"
	@$(ENSURE_PIP)
	@echo 'Installing d2l_deeprnn and what its notebooks need into .venv ...'
	@$(PIP_INSTALL) --editable '.[notebooks]'
	@touch $@ .venv/installed-base

# A .venv that is there is kept, whatever made it. The new pip: the one that comes with Python 3.8
# to 3.10 can take an hour to choose versions.
$(VENV_PYTHON):
	@command -v "$(PYTHON)" >/dev/null || { \
	    echo 'make: there is no $(PYTHON). Install Python 3.8 to 3.13, or name one:' >&2; \
	    echo 'make PYTHON=/path/to/python3.11' >&2; \
	    exit 1; }
	@"$(PYTHON)" -c "$$CHECK_PLATFORM"
	@echo 'Making .venv with $(PYTHON) ...'
	@"$(PYTHON)" -m venv --clear .venv || { \
	    rm -rf .venv; \
	    echo 'make: $(PYTHON) cannot make a virtual environment.' >&2; \
	    echo 'Debian, Ubuntu: apt-get install python3-venv' >&2; \
	    exit 1; }
	@$(PIP_INSTALL) --upgrade pip

# What MXNet 1.9.1 needs, asked before anything is downloaded. Runs on any Python 3.
define CHECK_PLATFORM
import ctypes, platform, sys
system, machine = platform.system(), platform.machine()
if not (3, 8) <= sys.version_info[:2] <= (3, 13):
    sys.exit("make: %s is Python %s; MXNet 1.9.1 works on 3.8 to 3.13.\n"
             "Name another one: make clean, then make PYTHON=/path/to/python3.11"
             % (sys.executable, platform.python_version()))
if sys.maxsize < 2**32 or (system, machine) not in [
        ("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "x86_64")]:
    sys.exit("make: there is no MXNet 1.9.1 for Python on %s %s.\n"
             "Use 64-bit Linux or macOS on x86-64 (Apple silicon: an x86-64 Python under Rosetta)."
             % (system, machine))
if (system, machine) == ("Linux", "x86_64"):
    for library in ["libquadmath.so.0", "libgomp.so.1"]:
        try:
            ctypes.CDLL(library)
        except OSError:
            sys.exit("make: MXNet needs the system library %s.\n"
                     "Debian, Ubuntu: apt-get install libquadmath0 libgomp1; Fedora: dnf install libquadmath libgomp"
                     % library)
endef
export CHECK_PLATFORM

.PHONY: help reproduce test test-slow notebooks lint format clean
