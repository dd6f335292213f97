#!/usr/bin/env bash
# Copy the image's serving package into FOLDER, and check it against the hashes in its manifest.
#
#   choose.sh EXPORTED DEMO FOLDER
#
# EXPORTED is build/model of the checkout, or a folder without a package. Then the script copies the package in DEMO.
# The function does not check the hashes again: see docs/decisions/0021-hashes-checked-at-build.md.
set -euo pipefail

exported=$1 demo=$2 folder=$3

refuse() {
  echo "choose.sh: the serving package in $package cannot be used: $1. Export it again with make model." >&2
  exit 1
}

if [[ -e $exported/manifest.json ]]; then package=$exported; else package=$demo; fi
mkdir -p "$folder"
cp "$package/manifest.json" "$folder/"
for file in model.onnx weights.bin; do
  hash=$(sed -nE "s/.*\"${file/./\\.}\": *\"([0-9a-f]{64})\".*/\1/p" "$folder/manifest.json")
  [[ -n $hash ]] || refuse "its manifest has no hash of $file"
  [[ -r $package/$file ]] || refuse "$file is missing"
  cp "$package/$file" "$folder/"
  sha256sum --check --status <<<"$hash  $folder/$file" || refuse "$file does not match the hash in its manifest"
done
chmod -R a+rX "$folder"
