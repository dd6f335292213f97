#!/usr/bin/env bash
# Exits 0 if images can be built here, starting an engine where the machine has a tool for that; else says what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

base_image=$(sed -n 's/^ARG BASE_IMAGE=//p' layers/Dockerfile)
# Machines without a container registry may have this beside the project: it makes an engine and the base image.
tool=../shared/tools/docker-engine

docker image inspect "$base_image" >/dev/null 2>&1 && exit
if [[ -x $tool ]]; then
  "$tool" >/dev/null && exit
fi
if docker info >/dev/null 2>&1; then
  docker pull --quiet "$base_image" >/dev/null && exit
  echo "The Docker engine runs, but the base image $base_image cannot be had." >&2
else
  echo "No Docker engine answers on this machine, so the function's image can be neither built nor tried." >&2
fi
exit 1
