#!/usr/bin/env bash
# Exit with 0 if this machine can build images. Otherwise say what is missing and exit with 1.
#
# DOCKER_ENGINE_TOOL may name a program that starts a Docker engine and makes the base image, for machines without a
# container registry.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

base_image=$(sed -n 's/^ARG BASE_IMAGE=//p' layers/Dockerfile)

docker image inspect "$base_image" >/dev/null 2>&1 && exit
if [[ -n ${DOCKER_ENGINE_TOOL:-} ]]; then
  "$DOCKER_ENGINE_TOOL" >/dev/null && exit
fi
if docker info >/dev/null 2>&1; then
  docker pull --quiet "$base_image" >/dev/null && exit
  echo "A Docker engine runs, but it cannot pull the base image $base_image." >&2
else
  echo "No Docker engine runs on this machine. Building the image needs one." >&2
fi
exit 1
