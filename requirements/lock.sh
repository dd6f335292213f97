#!/usr/bin/env bash
# Rewrites every requirements/*.txt from its .in: exact versions, one version of a package in all of them.
# Needs pip-tools on the PATH. The files name no registry, so they install from whichever one pip is set to use.
set -euo pipefail
cd "$(dirname "$0")"
compile() {
  CUSTOM_COMPILE_COMMAND="make lock" pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-find-links \
    --no-emit-trusted-host --output-file "$1.txt" "$1.in" "${@:2}"
  # The build tag of a local wheel is no version that another machine can find.
  sed -i -E 's/^(torch==[0-9.]+)\+cpu/\1/; s/--constraint=[^ ]*\/([a-z]+\.txt)/--constraint=\1/' "$1.txt"
}
compile dev
for name in function local model; do compile "$name" --constraint dev.txt; done
# Environments of their own, so they share no versions with the others.
compile sam
compile audit
