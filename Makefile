# Every command a person types. `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SAM := .venv-sam/bin/sam
NAME ?= hubert-base-ch
CHECKPOINT ?= build/checkpoint
CALIBRATION ?=
MODEL ?= build/model

.DEFAULT_GOAL := help
.PHONY: help demo local test lint format model bench schema lock clean system system-browser

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/local ## run the whole stack here, on the samples
	$(BIN)/audio-emotion demo

local: $(VENV)/local ## keep the stack running; classify what is dropped into inbox/
	$(BIN)/audio-emotion local

test: $(VENV)/dev | system-browser ## run the tests
	$(BIN)/pytest

lint: $(VENV)/dev $(SAM) ## check style, types and the template
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 $(SAM) validate --lint --template template.yaml

format: $(VENV)/dev ## put the code into its one form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

model: $(VENV)/model ## fetch the published checkpoint (or NAME=…, or CHECKPOINT=dir) and export it to build/model
	@if [ "$(CHECKPOINT)" = build/checkpoint ]; then $(BIN)/audio-emotion model pull $(NAME) --out build/checkpoint; fi
	$(BIN)/audio-emotion model export $(CHECKPOINT) $(MODEL) $(if $(CALIBRATION),--calibration $(CALIBRATION))

bench: $(VENV)/dev ## measure, and print tables
	$(BIN)/python -m benchmarks

schema: $(VENV)/local ## write docs/result.schema.json
	$(BIN)/audio-emotion schema > docs/result.schema.json

lock: ## rewrite requirements/*.txt (needs pip-tools)
	requirements/lock.sh

clean: ## remove what was built
	rm -rf build out .aws-sam .venv .venv-sam

# One environment; each level adds to the one before.
$(VENV)/local: requirements/local.txt requirements/no-deps.txt pyproject.toml | system
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --requirement requirements/local.txt
	$(BIN)/pip install --quiet --no-deps --requirement requirements/no-deps.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/model: requirements/model.txt $(VENV)/local
	$(BIN)/pip install --quiet --requirement requirements/model.txt
	@touch $@

$(VENV)/dev: requirements/dev.txt $(VENV)/local
	$(BIN)/pip install --quiet --requirement requirements/dev.txt
	@touch $@ $(VENV)/model

$(SAM): requirements/sam.txt
	$(PYTHON) -m venv .venv-sam
	.venv-sam/bin/pip install --quiet --requirement requirements/sam.txt
	@touch $@

system:
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { $(call install,python3 python3-venv); }
	@command -v ffmpeg >/dev/null && command -v ffprobe >/dev/null || { $(call install,ffmpeg); }

# The tests of the report use a browser, and skip, saying so, where there is none.
system-browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null \
		|| ($(call install,chromium chromium-driver)) || true

# Debian packages where we may; elsewhere say what is missing.
install = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null; \
	else echo "Missing: $(1). Install it (on Debian: apt-get install $(1)) and try again." >&2; exit 1; fi

-include layers/image.mk
