# make app        open the lab in a browser
# make notebooks  open the teaching notebooks in JupyterLab
# make html       execute them and write them as pages into runs/book, to read without Jupyter
# make test       run the tests, notebooks and those in Chromium included; where there is no Chromium it is installed, or
#                 these tests are skipped and say how to get it
# make lint       ruff and pyright
#
# All of them run `make install` first: it creates .venv and installs what is missing; later runs start at once.
# ARGS="-k memory" hands arguments on; PYTHON=python3.12 names another Python than `python3` (3.11 or newer).

PYTHON ?= python3
VENV := .venv
VENV_PYTHON := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.PHONY: help install app notebooks html test lint

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//; p' Makefile

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@python=$$([ -x $(VENV_PYTHON) ] && echo $(VENV_PYTHON) || echo $(PYTHON)); \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "M+ Lab needs Python 3.11 or newer, but $$python gives: $$($$python --version 2>&1)." \
	         "Name a newer one, for instance: make install PYTHON=python3.12 (remove $(VENV) first if it is there)." >&2; \
	    exit 1; }
	@$(VENV_PYTHON) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(VENV_PYTHON) -m pip install --editable '.[test]'
	@touch $@

app: install
	$(VENV_PYTHON) app.py $(ARGS)

notebooks: install
	$(VENV_PYTHON) -m jupyterlab notebooks --config=lab/jupyter/jupyter_lab_config.py $(ARGS)

html: install
	$(VENV_PYTHON) -m lab.book runs/book $(ARGS)

test: install
	@sh scripts/install_browser.sh >/dev/null || true
	$(VENV_PYTHON) -m pytest $(ARGS)

lint: install
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m pyright --pythonpath $(VENV_PYTHON)
