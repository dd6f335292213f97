#!/usr/bin/env bash
# Exit with status 0 if this machine can build images. Otherwise print what is missing and exit with status 1.
#
#   engine.sh [x86_64 | arm64]    architecture of the images, by default x86_64
#
# On machines without a container registry, DOCKER_ENGINE_TOOL can name a program that starts a Docker engine and makes
# the base image.
#
# For arm64, an engine on another processor also needs QEMU, Debian for arm64, and Debian for the cross-compilers. On
# Debian, root gets QEMU from backports and makes the images without a registry.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

architecture=${1:-x86_64}
base_image=$(sed -n 's/^ARG BASE_IMAGE=//p' layers/Dockerfile)
# template.yaml names these two images.
arm64_image=arm64v8/$base_image
compilers_image=audio-emotion-compilers
work=$(mktemp -d)
trap clean_up EXIT

# An interrupted debootstrap leaves /proc mounted in its folder. Deleting must not enter a mounted file system.
clean_up() {
  if [[ -d $work/tree ]]; then
    umount "$work"/tree/{proc,sys} 2>/dev/null || true
    rm -rf --one-file-system "$work"
  else
    rm -rf "$work"
  fi
}

fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

is_present() { docker image inspect "$1" >/dev/null 2>&1; }

is_debian_root() { [[ $(id -u) = 0 && -e /usr/share/keyrings/debian-archive-keyring.gpg ]] && command -v apt-get >/dev/null; }

need_engine() {
  is_present "$base_image" && return
  [[ -n ${DOCKER_ENGINE_TOOL:-} ]] && "$DOCKER_ENGINE_TOOL" >/dev/null && return
  docker info >/dev/null 2>&1 || fail "No Docker engine is running. Start one to build the image."
  docker pull --quiet "$base_image" >/dev/null || fail "The Docker engine cannot pull the base image $base_image."
}

# The mirror of this machine's package sources.
archive() { apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' | head -n 1; }

release() { sed -E 's/.*:([a-z]+).*/\1/' <<<"$base_image"; }

# Succeed if the engine runs arm64's programs on Lambda's processor. QEMU before 8.2 shows them the /proc/cpuinfo of the
# machine, and importing ONNX Runtime crashes.
emulates() {
  docker run --rm --network=none --platform=linux/arm64 --env=QEMU_CPU=neoverse-n1 "$arm64_image" \
    grep -q asimddp /proc/cpuinfo 2>/dev/null
}

# Register QEMU with the kernel. Flag F opens the program now, so that it also runs in containers and after its deletion.
register_qemu() {
  is_debian_root || return
  echo "Registering QEMU for arm64's programs with binfmt_misc, until the next boot" >&2
  local registry=/proc/sys/fs/binfmt_misc name=audio-emotion-arm64
  local options=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$work/lists" -o APT::Sandbox::User=root)
  mkdir -p "$work/lists/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(archive) $(release)-backports main" \
    >"$work/sources.list"
  apt-get "${options[@]}" update -qq || return
  (cd "$work" && apt-get "${options[@]}" download -qq qemu-user && dpkg-deb --extract qemu-user_*.deb qemu) || return
  [[ -e $registry/register ]] || mount -t binfmt_misc binfmt_misc "$registry" || return
  [[ ! -e $registry/$name ]] || echo -1 >"$registry/$name"
  # Bytes of the ELF header: 64 bits, little-endian, an executable or a shared object, for AArch64.
  printf '%s' ":$name:M::" '\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:' \
    '\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:' \
    "$work/qemu/usr/bin/qemu-aarch64:F" >"$registry/register"
}

# Make an image for arm64 of a root file system. `docker import --platform` would label it with the engine's architecture.
label_arm64() {
  printf 'FROM scratch\nADD tree.tar /\n' >"$work/Dockerfile"
  docker build --quiet --platform=linux/arm64 --tag="$1" --file="$work/Dockerfile" "$work" >/dev/null || return
  rm "$work/tree.tar"
}

# Make Debian for arm64 as DOCKER_ENGINE_TOOL makes the base image, with the certificates of this machine.
bootstrap_arm64() {
  is_debian_root || return
  echo "Making Debian for arm64 with debootstrap, which takes minutes" >&2
  command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq debootstrap >/dev/null; } || return
  debootstrap --arch=arm64 --variant=minbase --include=ca-certificates "$(release)" "$work/tree" "$(archive)" \
    >"$work/debootstrap.log" || { tail -n 20 "$work/debootstrap.log" >&2; return 1; }
  cp /etc/ssl/certs/ca-certificates.crt "$work/tree/etc/ssl/certs/ca-certificates.crt"
  printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$work/tree/etc/pip.conf"
  tar -C "$work/tree" -cf "$work/tree.tar" . || return
  rm -rf "$work/tree"
  label_arm64 "$arm64_image"
}

need_arm64_image() {
  is_present "$arm64_image" || docker pull --quiet --platform=linux/arm64 "$arm64_image" >/dev/null 2>&1
}

need_emulation() {
  local missing="Programs for arm64 do not run on this machine. Register qemu-user 8.2 or later with binfmt_misc, with flag F."
  if need_arm64_image; then
    emulates || { register_qemu && emulates; } || fail "$missing" "On Debian, root registers it with layers/engine.sh arm64."
  else
    register_qemu || fail "$missing"
    bootstrap_arm64 || fail "The Docker engine cannot pull $arm64_image, and only root on Debian can make it."
    emulates || fail "$missing"
  fi
}

# The classic builder cannot copy between platforms, so the cross-compilers run in this machine's Debian under the label
# of arm64.
need_compilers() {
  is_present "$compilers_image" && return
  local container
  container=$(docker create "$base_image" true)
  docker export --output="$work/tree.tar" "$container"
  docker rm "$container" >/dev/null
  label_arm64 "$compilers_image"
}

[[ $architecture = x86_64 || $architecture = arm64 ]] || fail "engine.sh: unknown architecture $architecture: use x86_64 or arm64"
need_engine
if [[ $architecture = x86_64 ]]; then
  exit
elif [[ $(docker info --format '{{.Architecture}}') = aarch64 ]]; then
  need_arm64_image || docker tag "$base_image" "$arm64_image"
  docker tag "$arm64_image" "$compilers_image"
else
  need_emulation
  need_compilers
fi
