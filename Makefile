# Footfall. `make demo` and `make test` need only Python 3.11 or newer, make and a network for the first run.

UV_VERSION := 0.13.9

# The user's own uv when there is one, otherwise a private one in .tools (`make UV=` asks for the private one).
UV ?= $(shell command -v uv 2>/dev/null)
PRIVATE_UV := .tools/uv-$(UV_VERSION)/bin/uv
ifeq ($(strip $(UV)),)
uv := $(PRIVATE_UV)
else
uv := $(UV)
endif

BIN := .venv/bin
READY := .venv/.ready
ROOMS := bench brokers chaos command_side console contracts footfall identity migrations operations projector query_side read_model sealing sinks telemetry web

# Shell text that sets $$python to the first interpreter that is new enough, or ends with what to do about it.
define find_python
for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
  python=; \
done; \
if [ -z "$$python" ]; then \
  echo "error: Footfall needs Python 3.11 or newer, and none is on PATH." >&2; \
  echo "       Install one, or name it: make PYTHON=/path/to/python3 ..." >&2; \
  exit 1; \
fi
endef

export UV_PROJECT_ENVIRONMENT := .venv
export UV_PYTHON_DOWNLOADS := never
unexport VIRTUAL_ENV
# Where no bytecode is kept, each of many processes compiles all that it imports: a second of CPU at every start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo up test check docs bench chaos containers screenshots sbom advisories digests clean
.DELETE_ON_ERROR:

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(READY)  ## Send a day of traffic through a real Kafka and a real PostgreSQL, then report (ARGS="--help" for options)
	$(BIN)/footfall demo $(ARGS)

up: $(READY)  ## Run everything on port 3000 until Ctrl-C (ARGS="--help" for options)
	$(BIN)/footfall up $(ARGS)

test: $(READY)  ## Run every test against the real servers (ARGS="-k name" to choose)
	$(BIN)/pytest -n 6 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY)  ## Check format, lint, types, import contracts, scopes, dependencies, documents and the documentation site
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/pytest -q -p no:cacheprovider tests/integration/test_access.py -k "is_declared or that_is_not_there"
	$(BIN)/deptry .
	$(BIN)/python -m contracts.published
	$(BIN)/python -m footfall.documents
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/proposal.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs: $(READY)  ## Serve the documentation site on port 8000 until Ctrl-C (`make check` builds it strictly)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve $(ARGS)

bench: $(READY)  ## Measure the goals and write bench/results/latest.json
	$(BIN)/python -m bench $(ARGS)

chaos: $(READY)  ## Kill, freeze and cut off everything under load, then account for every event (SEED= ROUNDS= ARGS="--help")
	$(BIN)/python -m chaos $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

containers: $(READY)  ## Build the image, run compose.yaml with Podman, kill each service, account for every event (ARGS="--help")
	$(BIN)/python -m chaos.containers $(ARGS)

screenshots: $(READY)  ## Make the pictures of the console in docs/images (needs Chromium)
	$(BIN)/python -m tests.screenshots

sbom: $(READY)  ## Write what a release is made of: build/sbom.cdx.json (CycloneDX) and build/licences.md
	$(BIN)/python .ci/sbom.py --uv "$(uv)"

advisories: sbom  ## Compare what is locked with published advisories (ARGS=--online: by osv.dev, the jars too)
	$(BIN)/python .ci/advisories.py $(ARGS)

digests:  ## Write the images' digests into compose.yaml and Dockerfile (needs docker or skopeo; ARGS=--check compares)
	deploy/pin-images $(ARGS)

clean:  ## Remove the environment, the caches and the embedded servers' data
	rm -rf .venv .tools .footfall .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist .coverage .coverage.* htmlcov
	find $(ROOMS) tests -type d -name __pycache__ -prune -exec rm -rf {} +

# An environment that exists keeps its interpreter; a new one gets the interpreter that was found.
$(READY): pyproject.toml uv.lock $(if $(strip $(UV)),,$(PRIVATE_UV))
	@if [ -x $(BIN)/python ]; then \
	  "$(uv)" sync --frozen; \
	else \
	  $(find_python); \
	  "$(uv)" sync --frozen --python "$$(command -v "$$python")"; \
	fi
	@touch $@

$(PRIVATE_UV):
	@$(find_python); \
	echo "uv is not on PATH: installing uv $(UV_VERSION) into .tools"; \
	rm -rf .tools; \
	if ! "$$python" -m venv .tools/uv-$(UV_VERSION) >/dev/null 2>&1; then \
	  rm -rf .tools; \
	  echo "error: $$python cannot create a virtual environment (its venv or ensurepip module is missing)." >&2; \
	  echo "       Install it (Debian and Ubuntu: apt install python3-venv), or put uv on PATH, and run make again." >&2; \
	  exit 1; \
	fi; \
	.tools/uv-$(UV_VERSION)/bin/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
