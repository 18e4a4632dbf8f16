# Every verb of the project. They need make and Python 3.11 or newer; the rest is installed into .venv.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.ONESHELL:

VENV ?= .venv
PYTHON ?=
ARGS ?=
N ?= 10000
SEED ?=

BIN := $(VENV)/bin
# One process a core; a test that is done early takes from the others.
SIDE_BY_SIDE = --numprocesses auto --maxprocesses 4 --dist worksteal
SOURCES = $(wildcard peregrine tests benchmarks)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# ── verbs ────────────────────────────────────────────────────────────────────────────────────────

.PHONY: help run demo demo-eve test check test-all bench sim attack golden lock clean venv

help: ## this list
	@printf 'make VERB [ARGS="…"]\n\n'
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run-stamp ## start the service; ARGS="--port 8001" are passed on
	@exec $(BIN)/peregrine serve $(ARGS)

demo: $(VENV)/.run-stamp ## a guided minute with a throw-away store
	@exec $(BIN)/peregrine demo $(ARGS)

demo-eve: $(VENV)/.run-stamp ## the EVE Online tasks against a fake EVE, with 100,000 characters; some minutes
	@exec $(BIN)/peregrine demo --eve $(ARGS)

test: $(VENV)/.dev-stamp ## the fast test suite, 300 simulated histories included
	@$(BIN)/python -m tests.services.mongo_server install || true
	exec $(BIN)/python -m pytest -m "not slow" $(SIDE_BY_SIDE) $(ARGS)

check: $(VENV)/.dev-stamp ## style, types, the law of imports, the house rules
	@failed=()
	step() { local name=$$1; shift; printf '── %s\n' "$$name"; "$$@" || failed+=("$$name"); }
	step ruff            $(BIN)/ruff check --quiet $(SOURCES)
	step 'ruff format'   $(BIN)/ruff format --check --quiet $(SOURCES)
	step 'mypy --strict' $(BIN)/mypy $(SOURCES)
	step import-linter   $(BIN)/lint-imports --no-logo
	step house           $(BIN)/python -m pytest -q tests/house
	[ "$${#failed[@]}" = 0 ] || { printf 'make check: to mend:'; printf ' [%s]' "$${failed[@]}"; echo; exit 1; } >&2

test-all: ## every test, slow ones too, on each Python 3.11, 3.12 and 3.13 found
	@$(find_pythons)
	PATH="$$PATH$$(printf ':%s' "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[123].*/bin)"
	tried=0
	for minor in 11 12 13; do
	    python=$$(find_python "3.$$minor") || { echo "── python3.$$minor: not found, skipped"; continue; }
	    echo "── python3.$$minor: $$python"
	    $(MAKE) venv VENV=".venv-3.$$minor" PYTHON="$$python"
	    ".venv-3.$$minor/bin/python" -m pytest $(SIDE_BY_SIDE) $(ARGS)
	    tried=$$((tried + 1))
	done
	[ "$$tried" -gt 0 ] || { echo "make: no Python 3.11, 3.12 or 3.13 found" >&2; exit 1; }

bench: ## measure this machine beside other schedulers; see docs/benchmarks/
	@$(MAKE) .venv-bench/.bench-stamp VENV=.venv-bench
	if ! command -v redis-server > /dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
	    echo "── installing redis-server, for the peers that need it"
	    apt-get update -qq > /dev/null || true
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server > /dev/null || true
	fi
	if command -v npm > /dev/null && [ benchmarks/node/package-lock.json -nt benchmarks/node/node_modules ]; then
	    echo "── benchmarks/node: installing the peers that run on Node"
	    (cd benchmarks/node && npm ci --ignore-scripts --no-audit --no-fund --no-update-notifier) > /dev/null &&
	        touch benchmarks/node/node_modules || echo "make: npm failed; these peers are left out" >&2
	fi
	exec .venv-bench/bin/python -m benchmarks $(ARGS)

sim: $(VENV)/.dev-stamp ## simulated histories: N=10000 of them; SEED=42 repeats one world
	@exec $(BIN)/python -m tests.simulation --histories $(N) $(if $(SEED),--seed $(SEED)) $(ARGS)

attack: $(VENV)/.dev-stamp ## ten minutes of schemathesis and 100,000 malformed requests, on each store
	@export ATTACK_SECONDS="$${ATTACK_SECONDS:-600}" ATTACK_REQUESTS="$${ATTACK_REQUESTS:-100000}"
	exec $(BIN)/python -m pytest -v tests/attack $(ARGS)

golden: $(VENV)/.dev-stamp ## rewrite the golden files from what the code says now
	@exec $(BIN)/python -m pytest -q -m golden --write-golden $(ARGS)

lock: ## resolve the dependencies anew into requirements/*.lock
	@$(choose_python)
	[ -x .venv-lock/bin/uv ] || { "$$python" -m venv .venv-lock && .venv-lock/bin/pip install -q 'uv>=0.9'; }
	compile() { env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL -u PIP_INDEX_URL -u UV_FIND_LINKS -u UV_EXTRA_INDEX_URL \
	    .venv-lock/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	    --no-header --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade) pyproject.toml "$$@" > /dev/null; }
	compile --extra mongo --extra redis --group build -o requirements/run.lock
	compile --all-extras --group dev --constraint requirements/run.lock -o requirements/dev.lock
	compile --extra mongo --extra redis --group build --group bench --constraint requirements/run.lock -o requirements/bench.lock
	if grep -nE '://|(^|[[:space:]])/' requirements/*.lock; then echo "lock: an address or path leaked" >&2; exit 1; fi
	echo "lock: $$(grep -c == requirements/run.lock) packages to run, $$(grep -c == requirements/dev.lock) to develop"

clean: ## remove environments, caches and build output
	@rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -not -path '*/node_modules/*' -prune -exec rm -rf {} +

venv: $(VENV)/.dev-stamp ## only install what the other verbs need

# ── the virtual environment ──────────────────────────────────────────────────────────────────────
# A stamp is newer than the lock it was installed from. The development lock contains the run lock.

$(VENV)/.run-stamp: requirements/run.lock pyproject.toml
	@$(call install,requirements/run.lock)
	touch $@

$(VENV)/.dev-stamp: requirements/dev.lock pyproject.toml
	@$(call install,requirements/dev.lock)
	touch $(VENV)/.run-stamp $@

.venv-bench/.bench-stamp: requirements/bench.lock pyproject.toml
	@$(call install,requirements/bench.lock)
	touch $@

# find_python VERSION…: the path of the first interpreter on PATH that really runs and is one of these.
# A name on PATH proves nothing: version managers leave stubs there that only print an error.
define find_pythons
find_python() {
    local version candidate
    for version in "$$@"; do
        for candidate in $$(type -ap "python$$version"); do
            if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
                "$$candidate" -c 'import sys; print(sys.executable)'; return 0
            fi
        done
    done
    return 1
}
endef

define choose_python
$(find_pythons)
python='$(PYTHON)'
if [ -n "$$python" ]; then
    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || {
        echo "make: PYTHON=$$python does not run, or is older than 3.11" >&2; exit 1; }
elif ! python=$$(find_python 3.13 3.12 3.11 3); then
    echo "make: no Python 3.11 or newer found; install one, or name it: make $(MAKECMDGOALS) PYTHON=…" >&2; exit 1
fi
endef

# Debian ships venv and ensurepip apart from Python.
define need_venv
if ! "$$python" -c 'import venv, ensurepip' 2> /dev/null; then
    package="python$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        echo "── installing $$package"
        apt-get update -qq > /dev/null || true
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$$package" > /dev/null
    else
        echo "make: $$python has no venv module; install it (on Debian or Ubuntu: apt-get install $$package)" >&2; exit 1
    fi
fi
endef

define install
if ! $(BIN)/python -c '' 2> /dev/null; then
    $(choose_python)
    $(need_venv)
    echo "── $(VENV): $$("$$python" --version) from $$python"
    "$$python" -m venv --clear $(VENV)
fi
echo "── $(VENV): installing $$(grep -c '==' $(1)) packages from $(1)"
{
    $(BIN)/python -m pip install --progress-bar off --require-hashes -r $(1) &&
    $(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
} 2> $(VENV)/install.log | awk -v want="$$(grep -c '==' $(1))" '
    /^(Collecting|Processing) /      { if (++seen % 20 == 0) { printf "   %d of %d\n", seen, want; fflush() } }
    /^Installing collected packages/ { if (!told++) { print "   unpacking"; fflush() } }' || {
    grep -v '^WARNING' $(VENV)/install.log >&2; echo "make: the install failed; $(VENV)/install.log has it all" >&2; exit 1; }
endef
