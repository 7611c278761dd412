# Everything runs in .venv, which the first target that needs it creates.
#
#   make test PYTHON=python3.11     choose the Python of .venv
#   make reproduce ARGS='--seed 1'  pass further arguments
#
# Written for GNU make 3.81 (macOS) and for paths with spaces: every path here is relative.

PYTHON ?=
ARGS ?=
VENV ?= .venv
VENV_PYTHON := $(VENV)/bin/python
# If the Python of .venv no longer exists, rebuild .venv.
_ := $(shell $(VENV_PYTHON) -c '' 2>/dev/null || rm -f $(VENV_PYTHON) $(VENV)/installed-*)
# Any Python 3 can run the set-up script, which chooses the best one.
SET_UP := command -v "$${PYTHON:-python3}" >/dev/null || { \
	echo "make: there is no $${PYTHON:-python3}. Install python3-venv (Debian, Ubuntu) or python3" \
	    '(Fedora), or choose a Python: make PYTHON=/path/to/python3' >&2; exit 1; }; \
	"$${PYTHON:-python3}" scripts/set_up.py $(VENV)
SOURCES := setup.py d2l_deeprnn tests
SOURCES += $(wildcard benchmarks docs/*.py examples notebooks/*.py scripts/*.py)
export PYTHON

help:
	@echo 'make reproduce   train the chapter'\''s model, compare it with the book, write reproduction/'
	@echo 'make install     only set up .venv, with the command .venv/bin/d2l-deeprnn'
	@echo 'make test        run the tests; tests that need real books look in $$D2L_DEEPRNN_DATA'
	@echo 'make test-slow   run the tests that take minutes'
	@echo 'make notebooks   execute the notebooks in place (ARGS=--quick: a few epochs, nothing saved)'
	@echo 'make lab         open the notebooks in JupyterLab (ARGS=--no-browser: only print the address)'
	@echo 'make results     update the numbers in README.md and results/README.md, and the plots'
	@echo 'make site        build the documentation in build/site (ARGS=--quick: two epochs of training)'
	@echo 'make lint        check rules, format and types'
	@echo 'make format      fix what can be fixed automatically'
	@echo 'make clean       remove .venv, reproduction/ and the files of tools'
	@echo 'PYTHON=...       Python for .venv, 3.8 or later (default: the newest that works)'
	@echo 'ARGS=...         further arguments for reproduce, pytest, the notebooks, JupyterLab or the site'

# Status 3 (the book's text is not available, so nothing was compared) is not an error for make.
reproduce: $(VENV)/installed-base
	@status=0; \
	$(VENV_PYTHON) -m d2l_deeprnn reproduce --corpus auto --resume --out reproduction $(ARGS) || status=$$?; \
	if [ $$status -eq 3 ]; then \
	    echo 'make: nothing was compared: the book'\''s text is not available. This is not an error.'; \
	    status=0; \
	fi; \
	echo 'make: the command is $(VENV)/bin/d2l-deeprnn; try $(VENV)/bin/d2l-deeprnn --help'; \
	exit $$status

install: $(VENV)/installed-base
	@echo 'make: the command is $(VENV)/bin/d2l-deeprnn; try $(VENV)/bin/d2l-deeprnn --help'

test: $(VENV)/installed-test
	$(VENV_PYTHON) -m pytest -n auto --dist worksteal $(ARGS)

test-slow: $(VENV)/installed-test
	$(VENV_PYTHON) -m pytest -n auto --dist worksteal -m 'slow and not gpu' $(ARGS)

results: $(VENV)/installed-test
	$(VENV_PYTHON) scripts/results.py
	$(VENV_PYTHON) scripts/pictures.py

notebooks: $(VENV)/installed-notebooks
	$(VENV_PYTHON) notebooks/execute.py $(ARGS)

lab: $(VENV)/installed-notebooks
	$(VENV_PYTHON) -m jupyterlab --ServerApp.root_dir=. \
	    --LabApp.default_url=/lab/tree/notebooks/deep-rnn.ipynb $(ARGS)

# Write all pages, since Sphinx repeats the warnings about a page only when it writes that page.
site: $(VENV)/installed-site
	$(VENV_PYTHON) scripts/site_model.py build/model $(ARGS)
	$(VENV_PYTHON) -m sphinx --fail-on-warning --fresh-env --write-all --quiet \
	    --conf-dir docs --doctree-dir build/doctrees . build/site
	@echo 'make: the first page is build/site/index.html'

lint: $(VENV)/installed-test
	$(VENV_PYTHON) -m ruff check $(SOURCES)
	$(VENV_PYTHON) -m ruff format --check $(SOURCES)
	$(VENV_PYTHON) -m mypy

format: $(VENV)/installed-test
	$(VENV_PYTHON) -m ruff format $(SOURCES)
	$(VENV_PYTHON) -m ruff check --fix $(SOURCES)

# The versions with which the tests last passed. Run it after `make test`, on the newest Python.
requirements-tested.txt:
	@echo '# The versions with which the tests last passed; see CONTRIBUTING.md.' >$@
	@$(VENV_PYTHON) -c 'import platform; print("# Python", platform.python_version())' >>$@
	$(VENV_PYTHON) -m pip freeze --exclude-editable >>$@

clean:
	rm -rf .venv .venv-* reproduction build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find d2l_deeprnn tests -name __pycache__ -type d -prune -exec rm -rf {} +

METADATA := setup.py pyproject.toml d2l_deeprnn/_version.py

$(VENV)/installed-base: $(METADATA)
	@$(SET_UP)
	@touch $@

$(VENV)/installed-test: $(METADATA)
	@$(SET_UP) test
	@touch $@ $(VENV)/installed-base

$(VENV)/installed-notebooks: $(METADATA)
	@$(SET_UP) notebooks
	@touch $@ $(VENV)/installed-base

$(VENV)/installed-site: $(METADATA)
	@$(SET_UP) site
	@$(VENV_PYTHON) -c 'import sphinx' 2>/dev/null || \
	    { echo 'make: the site needs Python 3.11 or later' >&2; exit 1; }
	@touch $@ $(VENV)/installed-base

.PHONY: help install requirements-tested.txt reproduce test test-slow results notebooks lab site lint format clean
