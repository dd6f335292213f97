#!/usr/bin/env bash
# Make the root file system of the image in FOLDER, from Debian's packages.
#
#   build.sh FOLDER
#
# The script unpacks packages into an empty folder. The base image determines only the release of Debian and the package
# sources: its 130 MB of apt, Perl and administration tools would need patches and increase the attack surface.
# Maintainer scripts do not run, so this script performs the necessary steps.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
root=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mapfile -t packages < <(grep -v '^#' "$here/packages.txt")

# With an empty list of installed packages, apt downloads all dependencies, including the C library.
: >"$work/status"
mkdir -p "$work/archives/partial"
apt-get update -qq
apt-get install -qq --yes --download-only --no-install-recommends -o Dir::State::status="$work/status" \
  -o Dir::Cache::archives="$work/archives" -o APT::Sandbox::User=root "${packages[@]}" >/dev/null

# Debian's /bin, /lib and /sbin are links into /usr, but some packages still use the old paths.
mkdir -p "$root"/{dev,etc,opt,proc,root,run,sys,tmp,usr/{bin,lib,lib64,sbin,local/bin},var/{lib/dpkg/info,tmp}}
for name in bin lib lib64 sbin; do ln -sfn "usr/$name" "$root/$name"; done
chmod 1777 "$root/tmp" "$root/var/tmp"
for deb in "$work"/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar --extract --directory "$root" --keep-directory-symlink --no-same-owner
  # Security scanners read this list of packages.
  {
    dpkg-deb --field "$deb" | sed '/^Package:/a Status: install ok installed'
    echo
  } >>"$root/var/lib/dpkg/status"
done

# Steps of the maintainer scripts.
[[ -e $root/bin/sh ]] || ln -s dash "$root/bin/sh"
[[ -e $root/etc/passwd ]] || cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
[[ -e $root/etc/group ]] || cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
ln -sf python3.11 "$root/usr/bin/python3"
ln -sf /usr/share/zoneinfo/Etc/UTC "$root/etc/localtime"

# No program in the image reads these files. Licences stay, in /usr/share/doc/*/copyright.
find "$root/usr/share/doc" -mindepth 2 ! -name copyright -delete
rm -rf "$root"/usr/share/{man,locale,info,lintian,bash-completion,menu,applications,pixmaps,debconf,bug}
rm -rf "$root"/usr/lib/python3.11/{ensurepip,idlelib,lib2to3,pydoc_data,test,tkinter,turtledemo,unittest/test}
# Results use UTC, so other time zones are not needed.
find "$root/usr/share/zoneinfo" -mindepth 1 ! -path '*/Etc' ! -path '*/Etc/UTC' ! -name UTC -delete 2>/dev/null || true
# Tables for iconv. Python has its own, and this ffmpeg does not use iconv.
rm -rf "$root"/usr/lib/*-linux-gnu/gconv "$root"/usr/share/perl5 "$root"/usr/sbin/* "$root"/etc/{cron*,logrotate.d,init.d}
# No program may gain root privileges.
find "$root" -xdev -type f -perm /6000 -exec chmod a-s {} +

ldconfig -r "$root"
# unchecked-hash: the interpreter loads compiled modules without checking the sources or their dates.
chroot "$root" /usr/bin/python3 -B -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3.11
chroot "$root" /bin/sh -c 'python3 -B -c "import ssl, sqlite3, ctypes, lzma, bz2, zlib, hashlib" && mv --version >/dev/null'
du -sh "$root"
