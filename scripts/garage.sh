#!/usr/bin/env bash
# Runs Garage, one node, on free loopback ports until it is told to stop. Prints how to reach it, then READY.
# Installs it with cargo if it is not there (kept in $TOOLS): 13 minutes on two cores, so on demand only.
set -euo pipefail
tools=${TOOLS:-$(cd "$(dirname "$0")/.." && pwd)/.cache/tools}
if [ ! -x "$tools/bin/garage" ]; then
  env -u RUSTFLAGS CARGO_TARGET_DIR="$tools/build" \
    cargo install garage --version 2.5.0 --locked --debug --root "$tools" >&2
fi
read -r s3 rpc admin < <(python3 -c 'import socket
all = [socket.socket() for _ in range(3)]
[s.bind(("127.0.0.1", 0)) for s in all]
print(*[s.getsockname()[1] for s in all])')
dir=$(mktemp -d) pid=
trap 'trap - EXIT; [ -z "$pid" ] || kill "$pid" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$dir"; exit 0' \
  EXIT INT TERM
cat > "$dir/garage.toml" <<CONF
metadata_dir = "$dir/meta"
data_dir = "$dir/data"
db_engine = "sqlite"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:$rpc"
rpc_public_addr = "127.0.0.1:$rpc"
rpc_secret = "$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')"
[s3_api]
s3_region = "garage"
api_bind_addr = "127.0.0.1:$s3"
root_domain = ".localhost"
[admin]
api_bind_addr = "127.0.0.1:$admin"
CONF
key=GK$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')
secret=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
GARAGE_DEFAULT_ACCESS_KEY=$key GARAGE_DEFAULT_SECRET_KEY=$secret GARAGE_DEFAULT_BUCKET=conformance \
  "$tools/bin/garage" -c "$dir/garage.toml" server --single-node --default-bucket >&2 & pid=$!
"$(dirname "$0")/wait-for-port.sh" "$s3" "$pid"
sleep 2 # the layout is applied after the port is open
printf 'ENDPOINT=http://127.0.0.1:%s\nACCESS_KEY=%s\nSECRET_KEY=%s\nREGION=garage\nBUCKET=conformance\nREADY\n' \
  "$s3" "$key" "$secret"
wait "$pid"
