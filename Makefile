# The commands of the project; `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LOWEST := .venv-lowest
CLIENTS := .venv-clients
DOCS    := .venv-docs
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
FILES  := pyproject.toml constraints.txt

.PHONY: help check docs test-versions serve install-gpu images doctor gpu-check test test-lowest test-ray clients lint format bench torture training train-classification course clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

serve: $(VENV)/.serve ## install the service and serve models/ on http://127.0.0.1:8000
	@exec $(BIN)/python -m service

install-gpu: $(VENV)/.gpu ## install the service with the CUDA libraries

images: ## build the container images quartet:cpu and quartet:gpu
	VERSION=$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' quartet/__init__.py) REVISION=$$(git rev-parse HEAD) \
	  docker compose --profile cpu --profile gpu build

doctor: $(VENV)/.serve ## say what this machine is, and what can serve on it
	@$(BIN)/quartet doctor

gpu-check: $(VENV)/.test $(VENV)/.gpu ## check and measure the GPU of this machine; writes docs/reference/gpu.md
	$(BIN)/python -m benchmarks.gpu

test: $(VENV)/.test ## install what the tests need and run them all
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-lowest: $(LOWEST)/.installed ## run the tests of the service with the lowest versions that pyproject.toml allows
	$(LOWEST)/bin/python -m pytest -n 2 --dist loadfile tests/service

test-versions: $(VENV)/.test ## run the tests of the service and the client with each supported Python that is installed here
	$(BIN)/nox

check: lint docs test test-lowest ## what continuous integration runs

docs: $(DOCS)/.installed ## render docs/ as a site in build/site; a link that leads nowhere is an error
	$(DOCS)/bin/sphinx-build --quiet --fail-on-warning --keep-going -c docs -d build/doctrees . build/site
	@echo '<meta http-equiv="refresh" content="0; url=docs/README.html">' > build/site/index.html
	@echo "rendered: build/site/index.html"

test-ray: $(VENV)/.test ## install Ray and run the tests on a local one
	@$(PIP) --editable '.[ray]'
	$(BIN)/python -m pytest -m ray

clients: $(VENV)/.test $(CLIENTS)/.installed ## call the service with the clients of Triton and KServe, which need an environment of their own
	$(CLIENTS)/bin/python -m pytest $(OF_CLIENTS) tests/clients --ignore tests/clients/test_kserve.py
	$(CLIENTS)/bin/python -m pytest $(OF_CLIENTS) tests/clients/test_kserve.py

# The fixtures of the other tests need the service. Both clients register messages of the same names, so that a process
# can have one of them.
OF_CLIENTS = --confcutdir tests/clients --disable-warnings -W default

lint: $(VENV)/.test ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test ## let ruff format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.test ## compare the service with the bare runtime and a hand-written app
	$(BIN)/python -m benchmarks.serving
	$(BIN)/python -m benchmarks.detection
	$(BIN)/python -m benchmarks.routes
	$(BIN)/python -m benchmarks.protocols

torture: $(VENV)/.test ## attack the service and watch a well-behaved client beside it
	$(BIN)/python -m benchmarks.torture

training: $(VENV)/.training ## install the training libraries: .venv/bin/quartet train DATA
	@echo "installed: $(BIN)/quartet train DATA"

DATA ?= uoft-cs/cifar10
train-classification: $(VENV)/.training ## train the CNN and publish it (DATA=hub id or folder; default: the hub's CIFAR-10, as the original PNG)
	$(BIN)/python -m training classification --data "$(DATA)" --precision bfloat16 --publish --resume

course: $(VENV)/.course ## install what the notebooks of the course need and open them (LAB=options of JupyterLab, such as --no-browser)
	@cd examples/course && exec $(CURDIR)/$(BIN)/jupyter lab $(LAB)

clean: ## remove the environment and the caches
	rm -rf $(VENV) $(LOWEST) $(CLIENTS) $(DOCS) build/site build/doctrees .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1 || echo missing): run make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "error: cannot create $(VENV): install Python's venv module (Debian: apt install python3-venv)" >&2; exit 1; }

$(VENV)/.serve: $(FILES) | $(BIN)/python
	@echo "installing the service into $(VENV) …"
	@$(PIP) --editable '.[server]'
	@touch $@

$(VENV)/.gpu: $(FILES) | $(BIN)/python
	@echo "installing the service and the CUDA libraries into $(VENV) …"
	@$(BIN)/python -m pip uninstall -qq --yes --disable-pip-version-check onnxruntime  # the CPU's build, if it is there
	@$(PIP) --editable '.[cuda]'
	@touch $(VENV)/.serve $@

$(VENV)/.training: $(FILES) | $(BIN)/python
	@echo "installing the training libraries into $(VENV) …"
	@$(PIP) --editable '.[server,training]'
	@touch $(VENV)/.serve $@

$(VENV)/.course: $(FILES) | $(BIN)/python
	@echo "installing what the notebooks need into $(VENV) …"
	@$(PIP) --editable '.[server,course]'
	@touch $(VENV)/.serve $(VENV)/.training $@

$(VENV)/.test: $(FILES) | $(BIN)/python
	@echo "installing what the tests need into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'  # for dependency groups
	@$(PIP) --editable '.[server,training,score,adopt,grpc,traces]' --group test --group lint
	@touch $(VENV)/.serve $(VENV)/.training $@

# An environment of its own, so that the site is made without what the tests need.
$(DOCS)/.installed: $(FILES) | $(BIN)/python
	@echo "installing what renders the documents into $(DOCS) …"
	@$(BIN)/python -m venv --clear $(DOCS)
	@$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'  # for dependency groups
	@$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group docs
	@touch $@

$(CLIENTS)/.installed: tests/clients/constraints.txt | $(BIN)/python
	@echo "installing the clients of Triton and KServe into $(CLIENTS) …"
	@$(BIN)/python -m venv --clear $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint tests/clients/constraints.txt \
	  'tritonclient[grpc,http]' kserve pytest pytest-asyncio
	@touch $@

# The service's direct dependencies in their lowest versions; the tools of the tests as they are pinned.
TOOLS = $(shell grep -E '^(hypothesis|onnx|psutil|pytest|pytest-asyncio|pytest-xdist)==' constraints.txt)
$(LOWEST)/.installed: $(FILES) | $(BIN)/python
	@echo "installing the lowest versions of what the service needs into $(LOWEST) …"
	@$(BIN)/python -m venv --clear $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@$(LOWEST)/bin/uv pip compile --quiet --resolution lowest-direct --extra server --extra score --extra grpc \
	  --extra traces --python $(LOWEST)/bin/python --output-file $(LOWEST)/versions.txt pyproject.toml
	@$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --requirement $(LOWEST)/versions.txt $(TOOLS)
	@touch $@
