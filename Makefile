# Every command a person types. `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SAM := .venv-sam/bin/sam
AUDIT := .venv-audit/bin
NAME ?= hubert-base-ch
CHECKPOINT ?= build/checkpoint
CALIBRATION ?=
MODEL ?= build/model

.DEFAULT_GOAL := help
.PHONY: help demo local api test lint audit audit-template audit-dependencies format model fuzz bench soak schema reference lock clean
.PHONY: system system-browser

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/local ## run the whole stack here, on the samples
	$(BIN)/audio-emotion demo

local: $(VENV)/local ## keep the stack running; classify what is dropped into inbox/
	$(BIN)/audio-emotion local

api: $(VENV)/local ## serve the HTTP API and its page on http://127.0.0.1:8010
	$(BIN)/python -m handlers.api

test: $(VENV)/dev | system-browser ## run the tests
	$(BIN)/pytest

lint: $(VENV)/dev $(SAM) ## check style, types and the template
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 $(SAM) validate --lint --template template.yaml

audit: audit-template audit-dependencies ## check the template for unsafe settings, and the dependencies for known holes

# Without the network: no download of its makers' rules, no report to them; it brings rules of its own. It leaves out what
# the parameters' defaults turn off, hence a copy in which nothing is off.
audit-template: $(AUDIT)/checkov
	@mkdir -p build/audit
	sed '/^    Condition: /d' template.yaml > build/audit/template.yaml
	BC_SKIP_MAPPING=TRUE LOG_LEVEL=ERROR $(AUDIT)/checkov --file build/audit/template.yaml --framework cloudformation \
		--skip-download --compact --quiet

# Fails on what is known to be vulnerable, not where nobody could be asked, which it says.
audit-dependencies: $(AUDIT)/checkov
	$(AUDIT)/python requirements/audit.py $(addprefix requirements/,function.txt no-deps.txt dev.txt) || [ $$? = 2 ]

format: $(VENV)/dev ## put the code into its one form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

model: $(VENV)/model ## fetch the published checkpoint (or NAME=…, or CHECKPOINT=dir) and export it to build/model
	@if [ "$(CHECKPOINT)" = build/checkpoint ]; then $(BIN)/audio-emotion model pull $(NAME) --out build/checkpoint; fi
	$(BIN)/audio-emotion model export $(CHECKPOINT) $(MODEL) $(if $(CALIBRATION),--calibration $(CALIBRATION))

fuzz: $(VENV)/dev ## try COUNT=5000 spoilt recordings of SEED=1 on the decoder (or on the one in FFMPEG=folder)
	$(BIN)/python -m tests.support.mutants --count $(or $(COUNT),5000) --seed $(or $(SEED),1) $(if $(FFMPEG),--ffmpeg $(FFMPEG))

bench: $(VENV)/dev ## measure, and print tables
	$(BIN)/python -m benchmarks

soak: $(VENV)/dev ## COUNT=2000 recordings while S3, the queue and the workers fail (WORKERS=3, SEED=1, FAULTS=0.02)
	$(BIN)/python -m tests.support.soak.run --count $(or $(COUNT),2000) --workers $(or $(WORKERS),3) --seed $(or $(SEED),1) \
		--faults $(or $(FAULTS),0.02)

schema: $(VENV)/local ## write docs/result.schema.json
	$(BIN)/audio-emotion schema > docs/result.schema.json

reference: $(VENV)/local ## write docs/reference/ from the code
	$(BIN)/python -m tools.reference

lock: ## rewrite requirements/*.txt (needs pip-tools)
	requirements/lock.sh

clean: ## remove what was built
	rm -rf build out .aws-sam .venv .venv-sam .venv-audit

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

$(AUDIT)/checkov: requirements/audit.txt
	$(PYTHON) -m venv .venv-audit
	$(AUDIT)/pip install --quiet --requirement requirements/audit.txt
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
