# Targets that build, run and deploy the functions' image. The Makefile includes this file.

ARCH ?= x86_64
# The name that `sam build` derives from the function and its DockerTag.
IMAGE := classifyfunction:$(ARCH)
EVENT ?= events/s3-put.json

.PHONY: image invoke emulate deploy size test-image bench-image

# No telemetry. The SAM CLI needs a region even for local commands.
sam_env := SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=$${AWS_DEFAULT_REGION:-us-east-1}

image: $(SAM) ## build the image of the functions (needs a Docker engine; ARCH=arm64 for Graviton)
	@layers/engine.sh $(ARCH)
	$(sam_env) $(SAM) build --parameter-overrides Architecture=$(ARCH)

invoke: $(VENV)/local image ## run the image on EVENT=events/… with `sam local invoke`, and show the result
	$(BIN)/python -m tools.invoke --architecture $(ARCH) $(EVENT)

emulate: $(VENV)/local $(SAM) ## run this checkout's handler on EVENT in Lambda's emulator, without an image
	$(BIN)/python -m tools.invoke --process $(EVENT)

deploy: $(VENV)/local image ## create or update STACK=… on AWS (DEPLOY_ARGS=… for sam deploy; DEMO=1 allows the demo model)
	@manifest=$$(docker run --rm --entrypoint cat $(IMAGE) /opt/model/manifest.json) || exit 1; \
	if [ -z "$(DEMO)" ] && printf '%s' "$$manifest" | grep -qE '"demo": *true'; then \
		echo "The image contains the demo model, whose results for real people are meaningless." >&2; \
		echo "Run make model first, or deploy the demo model with make deploy DEMO=1." >&2; \
		exit 1; fi
	SAM_CLI_TELEMETRY=0 $(BIN)/python -m tools.deploy --sam $(SAM) --architecture $(ARCH) $(if $(STACK),--stack $(STACK)) -- $(DEPLOY_ARGS)

size: ## show the size of the image's layers and largest parts
	@layers/size.sh $(IMAGE)

# Emulated programs are many times slower, so a test for arm64 has half an hour instead of four minutes.
test-image: $(VENV)/dev $(SAM) ## build the image and test it (ARCH=arm64: under emulation; skipped without a Docker engine)
	@if layers/engine.sh $(ARCH); then \
		$(MAKE) --no-print-directory image && AUDIO_EMOTION_IMAGE_ARCH=$(ARCH) \
			$(BIN)/pytest tests/image $(if $(filter arm64,$(ARCH)),--timeout 1800); \
	else echo "Skipping the tests of the image."; fi

bench-image: $(VENV)/dev ## measure the image (TORCH=folder: also PyTorch on that checkpoint)
	$(BIN)/python -m benchmarks.image $(if $(TORCH),--torch $(TORCH))
