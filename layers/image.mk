# The function's image: building, trying and deploying it. Read by the Makefile.

IMAGE := classifyfunction:latest
EVENT ?= events/s3-put.json

.PHONY: image invoke emulate deploy size test-image bench-image

# Not telling anybody; and a region, which the SAM CLI asks for even where nothing leaves this machine.
sam_env := SAM_CLI_TELEMETRY=0 AWS_DEFAULT_REGION=$${AWS_DEFAULT_REGION:-us-east-1}

image: $(SAM) ## build the function's image (needs a Docker engine)
	@layers/engine.sh
	$(sam_env) $(SAM) build

invoke: $(VENV)/local image ## run the image on EVENT=events/… by `sam local invoke`, and show the result
	$(BIN)/python -m tools.invoke $(EVENT)

emulate: $(VENV)/local $(SAM) ## the same without an image: the handler of this checkout under Lambda's emulator
	$(BIN)/python -m tools.invoke --process $(EVENT)

deploy: image ## create or update the stack on AWS (DEMO=1: even with the demo model baked in)
	@manifest=$$(docker run --rm --entrypoint cat $(IMAGE) /opt/model/manifest.json) || exit 1; \
	if [ -z "$(DEMO)" ] && printf '%s' "$$manifest" | grep -qE '"demo": *true'; then \
		echo "The demo model is baked in, which does not judge real people. Run make model first, or make deploy DEMO=1." >&2; \
		exit 1; fi
	SAM_CLI_TELEMETRY=0 $(SAM) deploy --guided

size: ## what the image consists of, by layer
	@layers/size.sh $(IMAGE)

test-image: $(VENV)/dev $(SAM) ## build the image and test it (skipped where no engine can be had)
	@if layers/engine.sh; then $(MAKE) --no-print-directory image && $(BIN)/pytest tests/image; \
	else echo "The tests of the image are skipped."; fi

bench-image: $(VENV)/dev ## measure the image (TORCH=checkpoint: and PyTorch beside it)
	$(BIN)/python -m benchmarks.image $(if $(TORCH),--torch $(TORCH))
