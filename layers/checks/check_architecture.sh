#!/usr/bin/env bash
# Fail if a program or library in FOLDER is for another architecture than ARCHITECTURE, or if there is none.
#
#   check_architecture.sh ARCHITECTURE FOLDER    ARCHITECTURE as Debian names it: amd64 or arm64
#
# A cross-compiler that falls back to the builder's own architecture would otherwise fail only when the function starts.
set -euo pipefail

# e_machine in the header of an ELF file. Perl is in every Debian image, unlike readelf.
find "$2" -type f -print0 | ARCHITECTURE=$1 perl -0ne '
  BEGIN { $expected = { amd64 => 62, arm64 => 183 }->{$ENV{ARCHITECTURE}} or die "unknown architecture $ENV{ARCHITECTURE}\n" }
  chomp;
  open my $file, "<:raw", $_ or die "$_: $!\n";
  read $file, my $header, 20;
  next unless length $header == 20 && $header =~ /^\x7fELF/;
  $programs++;
  my $machine = unpack "v", substr $header, 18, 2;
  if ($machine != $expected) { warn "$_ is not for $ENV{ARCHITECTURE}: ELF machine $machine\n"; $wrong++ }
  END { $programs or warn "no program found\n"; $? = 1 if $wrong || !$programs }'
