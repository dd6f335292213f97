#!/usr/bin/env bash
# Rewrite each requirements/*.txt from its .in file. A package has the same exact version in all files that share an
# environment. Needs pip-tools on the PATH. The files do not name a registry, because pip's configuration does.
set -euo pipefail
cd "$(dirname "$0")"
compile() {
  CUSTOM_COMPILE_COMMAND="make lock" pip-compile --quiet --strip-extras --no-emit-index-url --no-emit-find-links \
    --no-emit-trusted-host --output-file "$1.txt" "$1.in" "${@:2}"
  # Remove the tag of a CPU build, because another registry may lack that version.
  sed -i -E 's/^(torch==[0-9.]+)\+cpu/\1/; s/--constraint=[^ ]*\/([a-z]+\.txt)/--constraint=\1/' "$1.txt"
}
compile dev
for name in function local model train; do compile "$name" --constraint dev.txt; done
# These files have their own environments and share no versions with the others.
compile sam
compile audit
