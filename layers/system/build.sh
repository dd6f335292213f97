#!/usr/bin/env bash
# Makes the root file system that the function runs on, from Debian's packages, in the folder that is given.
#
#   build.sh FOLDER
#
# Packages are unpacked into an empty folder, not added to the base image: that holds apt, Perl and the
# tools of an administrator, 130 MB that would only be carried, patched and attacked. The base image says which Debian
# this is and where its packages come from. Maintainer scripts do not run, so the few things that they would have
# done are done here.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
root=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mapfile -t packages < <(grep -v '^#' "$here/packages.txt")

# An empty list of installed packages makes apt fetch everything that these need, down to the C library.
: >"$work/status"
mkdir -p "$work/archives/partial"
apt-get update -qq
apt-get install -qq --yes --download-only --no-install-recommends -o Dir::State::status="$work/status" \
  -o Dir::Cache::archives="$work/archives" -o APT::Sandbox::User=root "${packages[@]}" >/dev/null

# /bin, /lib and /sbin are links into /usr, as on every Debian of today; packages still name files by the old paths.
mkdir -p "$root"/{dev,etc,opt,proc,root,run,sys,tmp,usr/{bin,lib,lib64,sbin,local/bin},var/{lib/dpkg/info,tmp}}
for name in bin lib lib64 sbin; do ln -sfn "usr/$name" "$root/$name"; done
chmod 1777 "$root/tmp" "$root/var/tmp"
for deb in "$work"/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar --extract --directory "$root" --keep-directory-symlink --no-same-owner
  # The list of packages is what security scanners read.
  {
    dpkg-deb --field "$deb" | sed '/^Package:/a Status: install ok installed'
    echo
  } >>"$root/var/lib/dpkg/status"
done

# What the maintainer scripts would have done.
[[ -e $root/bin/sh ]] || ln -s dash "$root/bin/sh"
[[ -e $root/etc/passwd ]] || cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
[[ -e $root/etc/group ]] || cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
ln -sf python3.11 "$root/usr/bin/python3"
ln -sf /usr/share/zoneinfo/Etc/UTC "$root/etc/localtime"

# Never read by a program that runs here. Licences stay: /usr/share/doc/*/copyright.
find "$root/usr/share/doc" -mindepth 2 ! -name copyright -delete
rm -rf "$root"/usr/share/{man,locale,info,lintian,bash-completion,menu,applications,pixmaps,debconf,bug}
rm -rf "$root"/usr/lib/python3.11/{ensurepip,idlelib,lib2to3,pydoc_data,test,tkinter,turtledemo,unittest/test}
# Time zones other than UTC: results are written in UTC.
find "$root/usr/share/zoneinfo" -mindepth 1 ! -path '*/Etc' ! -path '*/Etc/UTC' ! -name UTC -delete 2>/dev/null || true
# Tables for iconv: Python has its own, and ffmpeg is built without.
rm -rf "$root"/usr/lib/x86_64-linux-gnu/gconv "$root"/usr/share/perl5 "$root"/usr/sbin/* "$root"/etc/{cron*,logrotate.d,init.d}
# Nobody becomes root here.
find "$root" -xdev -type f -perm /6000 -exec chmod a-s {} +

ldconfig -r "$root"
# unchecked-hash: the interpreter neither looks at the sources nor at their dates, it just loads what was compiled.
chroot "$root" /usr/bin/python3 -B -m compileall -q -f --invalidation-mode unchecked-hash /usr/lib/python3.11
chroot "$root" /bin/sh -c 'python3 -B -c "import ssl, sqlite3, ctypes, lzma, bz2, zlib, hashlib" && mv --version >/dev/null'
du -sh "$root"
