# Guardwire's commands; `make` alone lists them. Needs GNU make >= 3.81, and Python >= 3.11 with venv.

PYTHON ?= python3 python3.13 python3.12 python3.11
RUN := .venv/bin/python -m

# Variables that a shell has set for another Python must not reach this project's.
unexport PYTHONHOME PYTHONPATH PYTHONSTARTUP PYTHONOPTIMIZE PYTHONWARNINGS PYTHONDEVMODE VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help demo install test faults trading lint bench bench-full lock audit clean venv

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: venv ## a trading dashboard that moves, on real servers (GUARDWIRE_PORT, GUARDWIRE_DATA)
	@exec $(RUN) realtime.cli demo

install: VENV_FOR = --production
install: venv ## .venv with what a node needs and nothing else, and the command .venv/bin/guardwire

# More processes than cores, because tests mostly wait; each process has servers of its own.
test: venv ## every test, on real PostgreSQL and Redis; TESTS="tests/auth -k name" picks some
	@exec $(RUN) pytest $(or $(TESTS),--numprocesses 4 --dist worksteal)

faults: venv ## faults injected into real servers, with every promise checked; SEED=7 repeats a run, ONLY=Redis picks some
	@exec $(RUN) tests.faults $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only "$(ONLY)")

trading: venv ## minutes of trading with everything at once, each account compared with its log; SECONDS=600, SEED=7
	@exec $(RUN) tests.faults.trading $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

bench: venv ## how fast it is beside the least possible and the usual; ONLY=changes picks a figure
	@exec $(RUN) tests.benchmarks $(if $(ONLY),--only $(ONLY))

bench-full: venv ## the same with 10^6 log rows, 5,000 sockets and three nodes
	@exec $(RUN) tests.benchmarks --full $(if $(ONLY),--only $(ONLY))

lint: venv ## ruff, mypy and the direction of imports
	@failed=; \
	$(RUN) ruff check . || failed=1; \
	$(RUN) ruff format --check --quiet . || { echo "ruff format would change files: .venv/bin/ruff format"; failed=1; }; \
	$(RUN) mypy || failed=1; \
	.venv/bin/lint-imports --cache-dir .import_linter_cache || failed=1; \
	test -z "$$failed"

lock: ## makes requirements*.lock again from pyproject.toml, with the newest versions, for all platforms
	@rm -rf build/lock && python3 -m venv build/lock && build/lock/bin/python -m pip install --quiet uv
	@for extra in "" -graphql -notify -dev; do \
	  build/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	    $${extra:+--extra $${extra#-}} --output-file requirements$$extra.lock pyproject.toml || exit 1; \
	done

# With --strict, a package without advisory data in the index counts as a failure, because nobody examined it.
audit: ## known vulnerabilities of the packages in the lock files, for Python and JavaScript
	@rm -rf build/audit && python3 -m venv build/audit && build/audit/bin/python -m pip install --quiet pip-audit
	@failed=; \
	for lock in requirements.lock requirements-graphql.lock requirements-notify.lock requirements-dev.lock; do \
	  build/audit/bin/pip-audit --strict --disable-pip --require-hashes --requirement "$$lock" || failed=1; \
	done; \
	npm audit --package-lock-only || failed=1; \
	test -z "$$failed"

clean: ## removes the files of make and the tools, but no data
	@rm -rf .venv build *.egg-info .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv:
	@.venv/bin/python -I .ci/build_venv.py $(VENV_FOR) --is-built 2>/dev/null && exit; \
	for python in $(PYTHON); do \
	  "$$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    && exec "$$python" -I .ci/build_venv.py $(VENV_FOR); \
	done; \
	for python in $(PYTHON); do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    && echo "Guardwire needs Python's venv module, which $$python lacks here: apt install $$("$$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])') (or your system's package of that name)." >&2 \
	    && exit 1; \
	done; \
	echo "Guardwire needs Python 3.11 or later, and none of \"$(PYTHON)\" is: apt install python3.11-venv, or brew install python@3.13, or make PYTHON=/path/to/python." >&2; \
	exit 1
