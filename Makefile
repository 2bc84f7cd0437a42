# Three commands for a newcomer: make run, make demo, make test. They install into .venv what they need. make help lists all.
# Needs Python 3.11 or later, make and git; the Firestore tests also the Google Cloud CLI with Java.

.DEFAULT_GOAL := run
.PHONY: help run install demo test check unit faults chaos bench eval image sbom mutants docs lock clean

# The first Python that is new enough.
PYTHON ?= $(shell for p in python3 python python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# With its progress on a terminal, else quiet.
PIP := test -t 1 || quiet=--quiet; $(BIN)/python -m pip install $$quiet --disable-pip-version-check
WORKERS ?= 2
# Workers where tests wait for processes and servers most of the time.
WAITING ?= 4
SECONDS ?= 60

help:  # this list
	@awk -F ':[^#]*  # ' '/^[a-z]+:.*  # / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/.run  # a tick, one of its recaps whole, and what to do next
	@$(BIN)/python -m demo.first_run

install: $(VENV)/.run  # what the job runs with, and no run: no sample users are made

demo: $(VENV)/.run  # the promise: runs killed and frozen, Redis flushed, all counted
	@$(BIN)/python -m demo $(if $(FOLDER),--folder $(FOLDER))

test: check  # the checks, then the tests, of the faults the short ones
	$(PYTEST) -n $(WAITING) --dist worksteal -m "not faults or short"

check: $(VENV)/.test  # format, lint, types, and the Dockerfile
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

unit: $(VENV)/.test  # the tests that need no server; under a minute
	$(PYTEST) -n $(WORKERS) --dist worksteal -m "not servers" tests/unit tests/run tests/contract

faults: $(VENV)/.test  # runs killed, frozen and cut off at each message
	$(PYTEST) -n $(WAITING) --dist worksteal tests/faults

chaos: $(VENV)/.test  # the same by dice: SECONDS=60, SEED=
	$(BIN)/python -m tests.faults.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.test  # the job's own cost
	$(BIN)/python -m benchmarks

eval: $(VENV)/.eval  # how good the texts are, also by a small LLM; about an hour
	$(BIN)/python -m evals

image: $(VENV)/.test  # the image, built without a daemon; needs root and buildah
	$(BIN)/python -m tests.acceptance.image $(if $(BASE),--base $(BASE))

sbom: $(VENV)/.test $(VENV)-image/.ready  # what the image holds, with licences, as CycloneDX
	$(BIN)/cyclonedx-py environment $(VENV)-image --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file sbom.json

mutants: $(VENV)-mutants/.ready  # is each rule held by a fast test? Some twenty minutes
	RECAP_TEST_PROFILE=mutants $(VENV)-mutants/bin/python -m mutmut run
	$(VENV)-mutants/bin/python -m mutmut results

docs: $(VENV)/.run  # the drawing, docs/settings.md and docs/cost.md, from the code
	$(BIN)/python -m docs.diagram docs/protocol.md
	$(BIN)/python -m docs.settings
	$(BIN)/python -m docs.cost

$(VENV)/.run: requirements.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; set PYTHON=/path/to/it." >&2; exit 1; }
	@echo "Installing what the job runs with into $(VENV), once: about a minute, 170 MB."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.test: $(VENV)/.run requirements-otel.txt requirements-dev.txt
	@echo "Installing what the tests need into $(VENV), once: some two minutes, 350 MB."
	@$(PIP) --require-hashes -r requirements-otel.txt -r requirements-dev.txt
	@touch $@

$(VENV)/.eval: $(VENV)/.test requirements-eval.txt
	@$(PIP) --require-hashes --no-deps -r requirements-eval.txt
	@touch $@

$(VENV)-mutants/.ready: requirements.txt requirements-dev.txt requirements-mutants.txt
	$(PYTHON) -m venv $(VENV)-mutants
	$(VENV)-mutants/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes $(^:%=-r %)
	@touch $@

$(VENV)-image/.ready: requirements.txt
	$(PYTHON) -m venv --without-pip $(VENV)-image
	$(BIN)/python -m pip --python $(VENV)-image install --quiet --disable-pip-version-check --require-hashes -r $^
	@touch $@

lock:  # pins anew from pyproject.toml; needs uv
	uv pip compile --no-config -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header pyproject.toml -o requirements.txt
	uv pip compile --no-config -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --extra otel -c requirements.txt pyproject.toml -o requirements-otel.txt
	uv pip compile --no-config -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --group dev -c requirements.txt -o requirements-dev.txt
	uv pip compile --no-config -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --group mutants -c requirements-dev.txt -c requirements.txt -o requirements-mutants.txt
	uv pip compile --no-config -q --no-deps --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --group eval -o requirements-eval.txt

clean:  # deletes what these made, and the data folders of run and demo
	rm -rf $(VENV) $(VENV)-mutants $(VENV)-image .recap .recap-demo* mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis
