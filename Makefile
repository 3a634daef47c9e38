# Two commands do everything: `make book` and `make test`.  Python 3.11 or newer, nothing else installed.

PYTHON ?= python3
# The environment; `make book VENV=$$CONDA_PREFIX` uses one that is there already.
VENV ?= .venv
export VENV
# A Python that was named is the environment's, or refused; one that is only found in the path makes a new one.
export KDNB_PYTHON := $(if $(filter file,$(origin PYTHON)),,$(PYTHON))
# Texts are UTF-8 under every locale.
export PYTHONUTF8 = 1

# Test files stand side by side, one on each core; four at most, since each has a torch of its own.  They are handed
# out in their order, so that the long ones come early.  To watch a test: PYTEST_ARGUMENTS="-n 0 tests/test_x.py".
SIDE_BY_SIDE = -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help book test lab install clean

help:  ## what can be made
	@echo "make book    set up, run the demo study, execute the notebooks, build the book (minutes)"
	@echo "make test    set up, run the test suite"
	@echo "make lab     set up, open the notebooks in JupyterLab (LAB_ARGUMENTS=\"--no-browser --port 9000\")"
	@echo "make install only set up: $(VENV) with kdnb and everything it needs"
	@echo "make clean   remove the book, the executed notebooks and the demo's records"

book:
	@$(PYTHON) book/build.py book

test:
	@$(PYTHON) book/build.py install
	@$(VENV)/bin/python -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGUMENTS)

lab:
	@$(PYTHON) book/build.py lab -- $(LAB_ARGUMENTS)

install:
	@$(PYTHON) book/build.py install

clean:
	@$(PYTHON) book/build.py clean
