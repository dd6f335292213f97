#!/usr/bin/env bash
# Build an audio-only ffmpeg and ffprobe from Debian's source package, in FOLDER.
#
#   build.sh source FOLDER    download ffmpeg and libsoxr with Debian's patches (needs apt)
#   build.sh soxr FOLDER      build libsoxr as a static library, which Debian does not ship
#   build.sh ffmpeg FOLDER    build ffmpeg and ffprobe; the image needs FOLDER/install
#
# The steps are separate, so that a change of components.txt repeats only the last step. DEBIAN_ARCH, such as arm64,
# names the architecture to build for; by default, it is that of this machine.
#
# The programs link statically with all libraries except libc, because Debian's ffmpeg spends most of its start on
# loading 200 shared libraries. Debian's hardening flags stay on, because the programs parse untrusted uploads. See
# docs/decisions/0010-own-ffmpeg-build.md.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
step=$1
mkdir -p "$2"
cd "$2"
root=$PWD
jobs=$(nproc)

# dpkg-buildflags reads DEB_HOST_ARCH, unlike dpkg-architecture.
DEB_HOST_ARCH=${DEBIAN_ARCH:-$(dpkg --print-architecture)}
export DEB_HOST_ARCH
tool_prefix='' cmake_cross=() ffmpeg_cross=()
if [[ $DEB_HOST_ARCH != "$(dpkg --print-architecture)" ]]; then
  processor=$(dpkg-architecture -a "$DEB_HOST_ARCH" -q DEB_HOST_GNU_CPU)
  tool_prefix=$(dpkg-architecture -a "$DEB_HOST_ARCH" -q DEB_HOST_GNU_TYPE)-
  cmake_cross=(-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR="$processor" -DCMAKE_C_COMPILER="${tool_prefix}gcc")
  # --cross-prefix would also look for a pkg-config of that name. The paths of the prefix suit every architecture.
  ffmpeg_cross=(--enable-cross-compile --target-os=linux --arch="$processor" --cross-prefix="$tool_prefix"
    --pkg-config=pkg-config)
fi

# Print the flags for ./configure, such as --enable-decoder=flac.
components() {
  awk '!/^#/ { for (i = 2; i <= NF; i++) print "--enable-" $1 "=" $i }' "$here/components.txt"
}

fetch_source() {
  # Debian's mirrors serve sources too, but the machine's lists of package sources omit them.
  local lists=$root/sources.list
  sed -nE 's/^deb( .*)$/deb-src\1/p' /etc/apt/sources.list 2>/dev/null >"$lists" || true
  cat "$lists" >/etc/apt/sources.list.d/sources-of-ffmpeg.list
  for file in /etc/apt/sources.list.d/*.sources; do
    [[ -e $file ]] && sed -i 's/^Types: deb$/Types: deb deb-src/' "$file"
  done
  apt-get update -qq
  apt-get source -qq ffmpeg libsoxr
  rm -f -- *.orig.tar.* *.debian.tar.* *.dsc sources.list
  mv ffmpeg-*/ ffmpeg
  mv libsoxr-*/ libsoxr
}

build_soxr() {
  # OpenMP would start threads for a task of milliseconds. ffmpeg does not use the "lsr" bindings.
  cmake -S libsoxr -B libsoxr-build -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$root/prefix" \
    -DCMAKE_INSTALL_LIBDIR=lib -DBUILD_SHARED_LIBS=OFF -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DWITH_OPENMP=OFF \
    -DWITH_LSR_BINDINGS=OFF -DBUILD_TESTS=OFF -DBUILD_EXAMPLES=OFF \
    -DCMAKE_C_FLAGS="$(dpkg-buildflags --get CFLAGS) $(dpkg-buildflags --get CPPFLAGS)" "${cmake_cross[@]}"
  cmake --build libsoxr-build --parallel "$jobs"
  cmake --install libsoxr-build
}

build_ffmpeg() {
  local flags version programs=$root/install/usr/local/bin licences=$root/install/usr/share/doc/ffmpeg-audio-only
  mapfile -t flags < <(components)
  # With Debian's suffix, `ffmpeg -version` shows which security fixes are included.
  version=$(dpkg-parsechangelog --file ffmpeg/debian/changelog --show-field Version)
  rm -rf ffmpeg-build install
  mkdir -p ffmpeg-build "$programs" "$licences"
  (
    cd ffmpeg-build
    # --disable-autodetect: the result must not depend on the libraries of the build machine.
    PKG_CONFIG_PATH="$root/prefix/lib/pkgconfig" ../ffmpeg/configure --extra-version="${version##*-}" \
      --disable-everything --disable-autodetect --disable-network --disable-doc --disable-debug \
      --disable-programs --enable-ffmpeg --enable-ffprobe --disable-avdevice --disable-swscale --disable-postproc \
      --enable-pthreads --enable-libsoxr --pkg-config-flags=--static --toolchain=hardened \
      --extra-cflags="$(dpkg-buildflags --get CFLAGS) -I$root/prefix/include" \
      --extra-ldflags="-L$root/prefix/lib" --extra-libs=-lm \
      "${ffmpeg_cross[@]}" "${flags[@]}" || { tail -n 40 ffbuild/config.log >&2; exit 1; }
    make --silent -j"$jobs" ffmpeg ffprobe
  )
  check_built
  for program in ffmpeg ffprobe; do "${tool_prefix}strip" --strip-all -o "$programs/$program" "ffmpeg-build/$program"; done
  # Both licences are LGPL 2.1 or later.
  cp ffmpeg/debian/copyright "$licences/copyright"
  cp libsoxr/debian/copyright "$licences/copyright.libsoxr"
  ls -l "$programs"
}

# Fail if a component is missing, because ./configure only warns about an unknown name.
check_built() {
  local missing=0 kind names name
  while read -r kind names; do
    [[ -z $kind || $kind == \#* ]] && continue
    for name in $names; do
      grep -qxE "#define CONFIG_${name^^}_${kind^^} 1" ffmpeg-build/config_components.h && continue
      echo "build.sh: the built ffmpeg lacks the $kind $name" >&2
      missing=1
    done
  done <"$here/components.txt"
  ((missing == 0))
}

case $step in
  source) fetch_source ;;
  soxr) build_soxr ;;
  ffmpeg) build_ffmpeg ;;
  *) echo "build.sh: unknown step $step: use source, soxr or ffmpeg" >&2; exit 2 ;;
esac
