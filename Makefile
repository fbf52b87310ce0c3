.DEFAULT_GOAL := help
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
PORT := 5000
ifndef MLFLOW_TRACKING_URI
DATABASE := mlflow.db
# Relative, because the absolute path may hold characters that a URI must encode. MLflow runs the project in this folder.
export MLFLOW_TRACKING_URI := sqlite:///mlflow.db
endif
HOST ?= $(shell hostname)
# Python compiles a module when it imports it first; to compile all 15,000 at once takes longer than to copy them.
PIP := python -m pip install --quiet --disable-pip-version-check --no-compile
# Many times as fast as pip. It does not read pip's settings, which may name another index, so pip follows if it fails.
UV := uv pip install --quiet --python $(VENV)/bin/python
# torch is installed from its pin in pyproject.toml, because its builds for CPU and for GPU have hashes of their own; by
# pip, because its settings say which of them. What only its GPU build for Linux needs is left out of the lock with it.
TORCH := $(shell grep -o 'torch==[^"]*' pyproject.toml)
NOT_LOCKED := cuda-bindings cuda-toolkit nvidia-cudnn-cu13 nvidia-cusparselt-cu13 nvidia-nccl-cu13 nvidia-nvshmem-cu13 triton
# The page of the package itself has the API alone, so the packages below it are named.
DOCUMENTED := abalone abalone.settings $(subst /,.,$(patsubst %/__init__.py,%,$(wildcard abalone/*/__init__.py)))
# Each file is one job, in the order of tests/conftest.py: the long ones first. Two processes keep two cores busy; a
# third took more CPU time from both than it found idle.
PYTEST := python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
# Without the modules that Python keeps compiled, each start of MLflow takes 11 seconds instead of 4.
unexport PYTHONDONTWRITEBYTECODE

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

run: $(VENV)/.installed $(DATABASE) ## install if needed, then run every stage of the guide as tracked runs
	mlflow run . --env-manager local --experiment-name "$${MLFLOW_EXPERIMENT_NAME:-abalone}"

ui: $(VENV)/.installed ## browse the runs: start MLflow's UI, print the address of the stages, open it if there is a display
	@python -m abalone.tracking.browse --port $(PORT)

server: $(VENV)/.installed-server ## start PostgreSQL and a tracking server for a team, print what to export on its machines
	@python -m abalone.tracking.team_server start --host $(HOST) --port $(PORT) $(if $(DATABASE_URL),--database $(DATABASE_URL)) $(if $(LOGIN),--login)

server-stop: $(VENV)/.installed-server ## end what `make server` has started; the data stay in server/
	@python -m abalone.tracking.team_server stop

test: lint tests ## check style and types, and run every test

# The makes of the tests would take the flags of this one.
tests: $(VENV)/.compiled ## run every test only
	MAKEFLAGS= $(PYTEST)

check: lint $(VENV)/.compiled ## check style and types, and run the quick tests; for every commit
	$(PYTEST) -m "not slow"

lint: $(VENV)/.installed-test ## check style and types only
	ruff check .
	ruff format --check .
	mypy

format: $(VENV)/.installed-test ## apply the project's style
	ruff check --fix .
	ruff format .

mlproject: $(VENV)/.installed ## write MLproject and deploy/MLproject from the commands and experiments/
	python -m abalone.cli.mlproject

lock: $(VENV)/.installed-test ## write requirements.lock from pyproject.toml; all versions anew with UPGRADE=--upgrade
	printf '%s\n' $(NOT_LOCKED) | uv pip compile pyproject.toml --output-file requirements.lock --quiet $(UPGRADE) --generate-hashes \
		--python-version 3.11 --universal --no-emit-package torch --excludes /dev/stdin --custom-compile-command "make lock"

notebook: $(VENV)/.installed-test ## write docs/guide.ipynb from docs/guide_notebook.md, and execute it
	python -m benchmarks.notebook

jupyter: $(VENV)/.installed-jupyter ## open docs/guide.ipynb in JupyterLab
	$(if $(DATABASE),env -u MLFLOW_TRACKING_URI) python -m jupyterlab docs/guide.ipynb

docs: $(VENV)/.installed-test ## write pages of the Python API and all modules, from their docstrings, to build/docs
	python -m pdoc --docformat numpy --no-show-source --output-directory build/docs $(DOCUMENTED)

bench: $(VENV)/.installed-server ## measure speed against the guide's loop and other peers; print one table and write docs/speed.md
	python -m benchmarks.bench_all

bench-quality: $(VENV)/.installed-quality $(VENV)/.installed-peers ## compare rings with its peers and write docs/results.md
	python -m benchmarks.bench_quality

pictures: $(VENV)/.installed-test ## make the pictures of README and docs from a real run (needs Chromium; a few minutes)
	python -m benchmarks.pictures

clean: ## delete the environment and caches, never runs or models
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

mlflow.db: | $(VENV)/.installed
	MLFLOW_LOGGING_LEVEL=WARNING python -c 'from abalone.tracking.database import prepare_database; prepare_database()'

$(VENV)/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v == (3, 11) else f"Python {v[0]}.{v[1]} found, 3.11 needed: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) uv==0.13.9
	$(UV) --require-hashes -r requirements.lock || $(PIP) --require-hashes -r requirements.lock
	$(PIP) '$(TORCH)'
	$(UV) -e . || $(PIP) -e .
	touch $@

$(VENV)/.installed-%: $(VENV)/.installed
	$(UV) -e '.[$*]' || $(PIP) -e '.[$*]'
	touch $@

# Once, before each of the jobs compiles what all of them import. What cannot be imported, the run itself reports.
$(VENV)/.compiled: $(VENV)/.installed-test
	-python -m pytest --collect-only --quiet >/dev/null
	touch $@

.PHONY: help run ui server server-stop test tests check lint format mlproject lock notebook jupyter docs bench bench-quality pictures clean
