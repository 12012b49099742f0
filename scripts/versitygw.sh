#!/usr/bin/env bash
# Runs the Versity S3 Gateway on a directory, on a free loopback port, until it is told to stop.
# Prints how to reach it, then READY. Builds it with go install if it is not there (kept in $TOOLS); with --install that is all.
set -euo pipefail
tools=${TOOLS:-$(cd "$(dirname "$0")/.." && pwd)/.cache/tools}
version=${VERSITYGW_VERSION:-v1.8.0}
if [ ! -x "$tools/bin/versitygw" ]; then
  mkdir -p "$tools/bin"
  GOBIN=$(cd "$tools/bin" && pwd) CGO_ENABLED=0 go install "github.com/versity/versitygw/cmd/versitygw@$version" >&2
fi
[ "${1:-}" != --install ] || exit 0
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
data=$(mktemp -d)
pid=
trap 'trap - EXIT; [ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$data"; exit 0' EXIT INT TERM
mkdir "$data/objects"
ROOT_ACCESS_KEY=access ROOT_SECRET_KEY=secret-secret "$tools/bin/versitygw" --port "127.0.0.1:$port" \
  --virtual-domain "localhost:$port" --health /health --quiet posix "$data/objects" >&2 & pid=$!
"$(dirname "$0")/wait-for-port.sh" "$port" "$pid"
printf 'ENDPOINT=http://127.0.0.1:%s\nACCESS_KEY=access\nSECRET_KEY=secret-secret\nREADY\n' "$port"
wait "$pid"
