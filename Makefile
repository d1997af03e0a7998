PYTHON ?= python3
BIN := .venv/bin
UV := uv==0.13.8
export ORT_DISABLE_TELEMETRY = 1
export TF_CPP_MIN_LOG_LEVEL ?= 3

# make setup WHEELHOUSE=folder installs from that folder and asks no network.
FROM_FOLDER := $(if $(WHEELHOUSE),--no-index --find-links $(abspath $(WHEELHOUSE)))

.PHONY: help setup quickstart lab release test test-authoring test-notebooks test-npu test-serving test-browser test-clients test-cluster check docs bench soak lock wheels wheelhouse clean

help:  ## what can be done here
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

setup: .venv/ready  ## install everything into .venv and build the native kernel

quickstart: .venv/ready  ## the whole path once: run notebooks/00_QuickStart.ipynb and print what it found
	@$(BIN)/python -m amlrealtimeai quickstart

lab: .venv/ready  ## open copies of the notebooks, in my-lessons/, in JupyterLab
	@$(BIN)/python -m amlrealtimeai lab

# Two at a time; the longer ones first, so that both CPUs have something to do to the end. What needs TensorFlow is together.
WITH_TENSORFLOW := $(addprefix tests/,accel_models benchmarks containers contrib convert core deployment_client pipeline)
test: .venv/ready-dev  ## all tests, the notebooks under nbval included
	@$(MAKE) --no-print-directory --keep-going -j2 --output-sync=line test-authoring test-serving test-notebooks test-npu

# NumPy's threads would wait for each other while the other tests have the CPUs: 20 times the time for small products.
test-authoring test-notebooks test-npu test-serving: export OPENBLAS_NUM_THREADS ?= 1

test-authoring: .venv/ready-dev
	$(BIN)/python -m pytest $(WITH_TENSORFLOW)

test-notebooks: .venv/ready-dev
	$(BIN)/python -m pytest -p tests.notebooks.twice --nbval --nbval-sanitize-with tests/notebooks/sanitize.cfg notebooks

test-npu: .venv/ready-dev
	$(BIN)/python -m pytest tests/npu

test-serving: .venv/ready-dev
	$(BIN)/python -m pytest tests $(addprefix --ignore ,$(WITH_TENSORFLOW) tests/npu tests/browser tests/sample_clients tests/cluster)

test-browser: .venv/ready-dev  ## the lessons' widgets and all pages in headless Chromium; screenshots in build/screenshots
	npm --prefix tests/browser ci --silent --no-audit --no-fund
	AMLREALTIMEAI_REQUIRE_CHROMIUM=1 $(BIN)/python -m pytest tests/browser

test-clients: .venv/ready-dev  ## build the clients in Go, JavaScript and C#, and test them against running services
	sample-clients/go/build.sh
	npm --prefix sample-clients/node ci --silent --no-audit --no-fund
	PYTHON=$(CURDIR)/$(BIN)/python sample-clients/csharp/build.sh
	AMLREALTIMEAI_REQUIRE_CLIENTS=1 $(BIN)/python -m pytest tests/sample_clients

# Kubernetes itself is built once, into the user's cache.
KUBERNETES := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/amlrealtimeai/kubernetes-1.20.2
test-cluster: .venv/ready-cluster  ## build a real Kubernetes from Debian's source (once), and run services on it; as root
	tests/cluster/build_kubernetes.sh $(KUBERNETES)
	AMLREALTIMEAI_REQUIRE_CLUSTER=1 $(BIN)/python -m pytest tests/cluster

check: .venv/ready-dev  ## lint and type-check
	$(BIN)/ruff check amlrealtimeai tests benchmarks protos data docs sample-clients
	$(BIN)/ruff format --check amlrealtimeai tests benchmarks protos data docs sample-clients
	$(BIN)/mypy

docs: .venv/ready-dev  ## docs/ and the docstrings as pages, in build/docs; broken links fail
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

release: .venv/ready  ## the lessons for a class, in build/class: for students, with solutions, for nbgrader
	$(BIN)/python -m amlrealtimeai.lab.release build/class

bench: .venv/ready-bench  ## every speed claim, measured beside its peer
	$(BIN)/python -m benchmarks.featurizer
	$(BIN)/python -m benchmarks.peak
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.load
	$(BIN)/python -m benchmarks.models
	$(BIN)/python -m benchmarks.finetune --seed 2

N = 200000
soak: .venv/ready-dev  ## 200,000 hostile requests against a server, or N=2000000; some minutes
	$(BIN)/python -m tests.hardening.soak --requests $(N)

lock: .venv/ready  ## write requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile -q pyproject.toml --extra author --extra lab --extra class --extra cluster --extra helm --extra dev --extra docs --extra bench --universal --python-version 3.11 --no-header -o requirements.lock

wheels: .venv/bin/uv  ## build wheels with the kernel in them, for Linux on x86-64 and on 64 bit ARM, and one for all systems
	AMLREALTIMEAI_WHEEL_FOR=x86_64 $(BIN)/uv build --quiet --wheel
	AMLREALTIMEAI_WHEEL_FOR=aarch64 $(BIN)/uv build --quiet --wheel
	$(BIN)/uv build --quiet --wheel

# With the kernel in our wheel where hatch_build.py can build it, and with what `make setup` itself needs.
SYSTEM := $(shell uname -sm)
wheelhouse: .venv/ready  ## every wheel that a class needs, in build/wheelhouse: make setup WHEELHOUSE=build/wheelhouse
	rm -rf build/wheelhouse
	AMLREALTIMEAI_WHEEL_FOR=$(if $(filter Linux,$(SYSTEM)),$(filter x86_64 aarch64,$(SYSTEM))) \
	  $(BIN)/uv build --quiet --wheel --out-dir build/wheelhouse
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --only-binary :all: --dest build/wheelhouse \
	  --constraint requirements.lock "$$(ls build/wheelhouse/amlrealtimeai-*.whl)[author,lab,class]" hatchling editables $(UV)
	cp requirements.lock build/wheelhouse/

clean:  ## remove what setup made
	rm -rf .venv .pip-requirements.txt amlrealtimeai/npu/native/npu_kernel-*

.venv/bin/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(FROM_FOLDER) $(UV)

# What is installed is environment.yml's pip section, so the conda way and this one cannot drift apart.
.venv/ready: environment.yml requirements.lock pyproject.toml | .venv/bin/uv
	sed -n '/^  - pip:/,$$s/^      - //p' environment.yml > .pip-requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(FROM_FOLDER) -r .pip-requirements.txt
	$(BIN)/python -m amlrealtimeai.npu.native
	touch $@

.venv/ready-dev: .venv/ready
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c requirements.lock -e '.[dev,docs]'
	touch $@

.venv/ready-cluster: .venv/ready-dev
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c requirements.lock -e '.[helm]'
	touch $@

.venv/ready-bench: .venv/ready-dev
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c requirements.lock -e '.[bench]'
	touch $@
