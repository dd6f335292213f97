#!/usr/bin/env bash
# Exit with status 0 if this machine can build images. Otherwise print what is missing and exit with status 1.
#
# On machines without a container registry, DOCKER_ENGINE_TOOL can name a program that starts a Docker engine and makes
# the base image.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

base_image=$(sed -n 's/^ARG BASE_IMAGE=//p' layers/Dockerfile)

docker image inspect "$base_image" >/dev/null 2>&1 && exit
if [[ -n ${DOCKER_ENGINE_TOOL:-} ]]; then
  "$DOCKER_ENGINE_TOOL" >/dev/null && exit
fi
if docker info >/dev/null 2>&1; then
  docker pull --quiet "$base_image" >/dev/null && exit
  echo "The Docker engine cannot pull the base image $base_image." >&2
else
  echo "No Docker engine is running. Start one to build the image." >&2
fi
exit 1
