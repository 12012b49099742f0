#!/usr/bin/env bash
# Builds an image from nothing but a static versitygw, with the daemon that DOCKER_HOST names, and prints its name.
set -euo pipefail
tools=${TOOLS:-$(cd "$(dirname "$0")/.." && pwd)/.cache/tools}
version=${VERSITYGW_VERSION:-v1.8.0}
if [ ! -x "$tools/bin/versitygw" ]; then
  mkdir -p "$tools/bin"
  GOBIN=$(cd "$tools/bin" && pwd) CGO_ENABLED=0 go install "github.com/versity/versitygw/cmd/versitygw@$version" >&2
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/data" "$dir/tmp"
cp "$tools/bin/versitygw" "$dir/"
printf 'FROM scratch\nCOPY versitygw /versitygw\nCOPY data /data\nCOPY tmp /tmp\nENTRYPOINT ["/versitygw"]\n' \
  > "$dir/Dockerfile"
DOCKER_BUILDKIT=0 docker build -t "conformance/versitygw:$version" "$dir" >&2
echo "conformance/versitygw:$version"
