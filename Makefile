# What is typed while working on pen; `make help` lists it.
#
# All of it happens in .venv, which make makes: .venv/made stands for pen's own requirements, .venv/tested
# for those of the tests. Both are of the interpreter that PYTHON names, or that scripts/python finds.

prefix ?= /usr/local
TESTS ?= tests
JOBS ?= 4
export prefix DESTDIR

venv := .venv/made$(subst /,-,$(PYTHON))
tested := .venv/tested$(subst /,-,$(PYTHON))
shell_scripts = $(shell grep -lE '^\#!/(bin/sh|usr/bin/env bash)' .ci/* scripts/*)

.PHONY: help demo test check bench lint soak install uninstall dist clean packages

help:  ## what there is (this)
	@echo 'pen: a load balancer, and the tools that give its cluster one true log'
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  PYTHON=/path/to/python3 names an interpreter, NO_INSTALL=1 leaves the system alone,'
	@echo '  prefix=/usr/local and DESTDIR= say where to install. README.md tells the rest.'

demo: $(venv)  ## a balanced cluster and its log, live, in seconds (KEEP=1: and stay)
	@.venv/bin/python -m demo $(if $(KEEP),--keep)

# Tests wait for processes more than they compute: more of them run side by side than there are cores.
test: $(tested) packages  ## all tests (TESTS=tests/unit: some)
	.venv/bin/pytest --numprocesses=$(JOBS) --dist=loadgroup $(TESTS)

check: lint test  ## lint and test, as before every change that goes in

lint: $(tested) packages  ## ruff, mypy, the floors of penlib, man pages, shell scripts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pytest -q tests/unit/test_floors.py
	scripts/lint-man man/*.1
	@if command -v shellcheck >/dev/null; then shellcheck $(shell_scripts); \
	else echo 'shellcheck is not installed: shell scripts not checked'; fi

soak: $(venv)  ## a gigabyte through webresolve and splitwr, with an eye on memory (minutes)
	@.venv/bin/python tests/soak.py

bench: $(venv)  ## costs beside the C suite, haproxy, nginx (QUICK=1: 2 minutes; BENCH=tls-: some)
	@scripts/packages bench
	@.venv/bin/python -m bench $(if $(QUICK),-q) $(BENCH)

install: $(venv)  ## into $(DESTDIR)$(prefix), for PYTHON
	@scripts/install

uninstall:  ## what install put there
	@scripts/install remove

dist:  ## build/pen-VERSION.tar.gz, from the last commit
	@mkdir -p build
	@version=$$(sed -n 's/^VERSION = "\(.*\)"/\1/p' penlib/version.py); \
	git archive --prefix="pen-$$version/" --output="build/pen-$$version.tar.gz" HEAD; \
	echo "build/pen-$$version.tar.gz"

clean:  ## remove what make and the tools made
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -prune -exec rm -rf {} +

packages:
	@scripts/packages

$(venv): setup.cfg scripts/venv
	@scripts/venv
	@touch $@

$(tested): $(venv)
	@.venv/bin/python scripts/requirements test >.venv/requirements-test
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -r .venv/requirements-test
	@touch $@
