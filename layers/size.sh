#!/usr/bin/env bash
# Print the size of an image, of its layers and of its largest parts.
#
#   size.sh IMAGE
set -euo pipefail
image=$1

echo "image      $(docker image inspect "$image" --format '{{.Size}}' | awk '{ printf "%.1f MB", $1 / 1e6 }')"
# `docker history` shows the last layer of the Dockerfile first.
names=(code model python ffmpeg system)
docker history --no-trunc --human=false --format '{{.Size}} {{.CreatedBy}}' "$image" | grep -E 'COPY ' \
  | awk '{ print $1 }' | paste -d ' ' <(printf '%s\n' "${names[@]}") - \
  | awk '{ printf "  %-8s %6.1f MB\n", $1, $2 / 1e6 }' | tac
echo "largest parts"
docker run --rm --entrypoint /bin/sh "$image" -c 'du --apparent-size -sk /opt/python/* /opt/model/* /usr/local/bin/* /usr/lib/*' \
  | sort -rn | head -n 15 | awk '{ printf "  %6.1f MB  %s\n", $1 * 1.024 / 1000, $2 }'
