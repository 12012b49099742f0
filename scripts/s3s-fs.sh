#!/usr/bin/env bash
# Runs s3s-fs, the s3s project's server on a directory, on a free loopback port until it is told to stop.
# Prints how to reach it, then READY. Installs it with cargo if it is not there (kept in $TOOLS); with --install that is all.
set -euo pipefail
tools=${TOOLS:-$(cd "$(dirname "$0")/.." && pwd)/.cache/tools}
version=0.14.1
if [ ! -x "$tools/bin/s3s-fs" ]; then
  env -u RUSTFLAGS CARGO_TARGET_DIR="$tools/build" \
    cargo install s3s-fs --version $version --features binary --locked --debug --root "$tools" >&2
fi
[ "${1:-}" != --install ] || exit 0
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
data=$(mktemp -d)
pid=
trap 'trap - EXIT; [ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$data"; exit 0' EXIT INT TERM
RUST_LOG=${RUST_LOG:-off} "$tools/bin/s3s-fs" --host 127.0.0.1 --port "$port" --access-key access --secret-key secret-secret \
  --domain "localhost:$port" "$data" >&2 & pid=$!
"$(dirname "$0")/wait-for-port.sh" "$port" "$pid"
printf 'ENDPOINT=http://127.0.0.1:%s\nACCESS_KEY=access\nSECRET_KEY=secret-secret\nREADY\n' "$port"
wait "$pid"
