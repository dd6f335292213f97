#!/usr/bin/env bash
# Builds ffmpeg and ffprobe from Debian's own source package, audio only, into the folder that is given.
#
#   build.sh source FOLDER    fetch and unpack ffmpeg and libsoxr there (needs apt; patched as Debian patches them)
#   build.sh soxr FOLDER      build libsoxr there, statically: Debian ships it as a shared library only
#   build.sh ffmpeg FOLDER    build ffmpeg and ffprobe there; FOLDER/install is what an image needs of it
#
# Three steps, so that a changed list of components costs neither a download nor libsoxr again.
#
# Everything but libc is linked in: a start of the usual ffmpeg spends most of its time on some two hundred shared
# libraries. Debian's hardening flags stay on, for these programs parse what strangers upload.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
step=$1
mkdir -p "$2"
cd "$2"
root=$PWD
jobs=$(nproc)

# The flags of one kind of component, from components.txt: "--enable-decoder=flac" and so on.
components() {
  awk '!/^#/ { for (i = 2; i <= NF; i++) print "--enable-" $1 "=" $i }' "$here/components.txt"
}

fetch_source() {
  # Each list of binary packages that the machine uses has its sources beside it; they are only switched off.
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
  # No OpenMP: it would start threads for a job of milliseconds. No "lsr" bindings: nobody calls them.
  cmake -S libsoxr -B libsoxr-build -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX="$root/prefix" \
    -DCMAKE_INSTALL_LIBDIR=lib -DBUILD_SHARED_LIBS=OFF -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DWITH_OPENMP=OFF \
    -DWITH_LSR_BINDINGS=OFF -DBUILD_TESTS=OFF -DBUILD_EXAMPLES=OFF \
    -DCMAKE_C_FLAGS="$(dpkg-buildflags --get CFLAGS) $(dpkg-buildflags --get CPPFLAGS)"
  cmake --build libsoxr-build --parallel "$jobs"
  cmake --install libsoxr-build
}

build_ffmpeg() {
  local flags version programs=$root/install/usr/local/bin licences=$root/install/usr/share/doc/ffmpeg-audio-only
  mapfile -t flags < <(components)
  # Debian's own suffix, so that `ffmpeg -version` tells which security fixes are in.
  version=$(dpkg-parsechangelog --file ffmpeg/debian/changelog --show-field Version)
  rm -rf ffmpeg-build install
  mkdir -p ffmpeg-build "$programs" "$licences"
  (
    cd ffmpeg-build
    # --disable-autodetect: what happens to be installed on the machine that builds must not change what is built.
    PKG_CONFIG_PATH="$root/prefix/lib/pkgconfig" ../ffmpeg/configure --extra-version="${version##*-}" \
      --disable-everything --disable-autodetect --disable-network --disable-doc --disable-debug \
      --disable-programs --enable-ffmpeg --enable-ffprobe --disable-avdevice --disable-swscale --disable-postproc \
      --enable-pthreads --enable-libsoxr --pkg-config-flags=--static --toolchain=hardened \
      --extra-cflags="$(dpkg-buildflags --get CFLAGS) -I$root/prefix/include" \
      --extra-ldflags="-L$root/prefix/lib" --extra-libs=-lm \
      "${flags[@]}" || { tail -n 40 ffbuild/config.log >&2; exit 1; }
    make --silent -j"$jobs" ffmpeg ffprobe
  )
  check_built
  for program in ffmpeg ffprobe; do strip --strip-all -o "$programs/$program" "ffmpeg-build/$program"; done
  # Under which licence they may be passed on: LGPL 2.1 or later, both.
  cp ffmpeg/debian/copyright "$licences/copyright"
  cp libsoxr/debian/copyright "$licences/copyright.libsoxr"
  ls -l "$programs"
}

# Every component of the list is really in: ./configure only warns of a name that it does not know.
check_built() {
  local missing=0 kind names name
  while read -r kind names; do
    [[ -z $kind || $kind == \#* ]] && continue
    for name in $names; do
      grep -qxE "#define CONFIG_${name^^}_${kind^^} 1" ffmpeg-build/config_components.h && continue
      echo "build.sh: $kind $name is not in the ffmpeg that was built" >&2
      missing=1
    done
  done <"$here/components.txt"
  ((missing == 0))
}

case $step in
  source) fetch_source ;;
  soxr) build_soxr ;;
  ffmpeg) build_ffmpeg ;;
  *) echo "build.sh: no step called $step" >&2; exit 2 ;;
esac
