# `make run` and `make test` are the two commands a newcomer needs; `make help` lists all.
PYTHON ?= python3
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run test container-test cluster-test exact benchmark check format lock licenses sbom audit clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

# An environment is made again when its lock changes. `dependencies/environment.py` says in one
# sentence what to do when this machine's Python cannot make it.
.venv/%/.stamp: dependencies/%.txt dependencies/environment.py
	@$(PYTHON) dependencies/environment.py $*

run: .venv/gateway/.stamp .venv/model/.stamp ## serve the clothing model on this machine
	@.venv/gateway/bin/python run.py

test: .venv/gateway/.stamp .venv/model/.stamp .venv/test/.stamp ## every test that needs neither Docker nor root
	@.venv/test/bin/python -m pytest tests/unit tests/integration

container-test: .venv/test/.stamp ## the tests that need a Docker engine
	@.venv/test/bin/python -m pytest tests/cluster -m docker

cluster-test: .venv/test/.stamp ## the tests on the Kubernetes cluster that KUBECONFIG points at
	@.venv/test/bin/python -m pytest -s tests/cluster -m kubernetes

exact: .venv/test/.stamp ## compare 500 generated pictures with Keras, bit for bit
	@.venv/test/bin/python -m pytest tests/unit/gateway/test_images_exact.py --exact

benchmark: .venv/gateway/.stamp .venv/model/.stamp .venv/test/.stamp ## the gateway against the book's service
	@.venv/test/bin/python -m benchmarks.compare

check: .venv/test/.stamp ## ruff and mypy
	@.venv/test/bin/ruff check . && .venv/test/bin/ruff format --check . && .venv/test/bin/mypy

format: .venv/test/.stamp ## let ruff rewrite what it can
	@.venv/test/bin/ruff check --fix . ; .venv/test/bin/ruff format .

lock: .venv/test/.stamp ## derive the hashed locks from the Pipfile
	@.venv/test/bin/python dependencies/lock.py

licenses: .venv/gateway/.stamp .venv/model/.stamp .venv/test/.stamp ## derive docs/licenses.md from the environments
	@.venv/test/bin/python -m dependencies.licenses

sbom: .venv/gateway/.stamp .venv/model/.stamp .venv/test/.stamp ## list what each image has, as CycloneDX, in build/sbom
	@.venv/test/bin/python -m dependencies.sbom

audit: .venv/test/.stamp ## ask an index of known vulnerabilities about every locked package
	@.venv/test/bin/python -m dependencies.audit

clean: ## remove the environments and everything that was made
	rm -rf .venv build
