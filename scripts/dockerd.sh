#!/usr/bin/env bash
# Runs a private Docker daemon, as root, until it is told to stop. Prints DOCKER_HOST=unix://…, then READY.
# Installs Debian's docker.io if it is not there. Its state is in a folder of its own and removed at the end.
set -euo pipefail
if ! command -v dockerd >/dev/null; then
  "$(dirname "$0")/apt.sh" docker.io >&2
fi
dir=$(mktemp -d) pid=
trap 'trap - EXIT; [ -z "$pid" ] || kill "$pid" 2>/dev/null || true; wait 2>/dev/null || true
  umount "$dir"/exec/netns/* 2>/dev/null || true; rm -rf "$dir"; exit 0' \
  EXIT INT TERM
# vfs works where overlays do not nest; bridge and iptables need rights that a sandbox lacks, so containers
# share the network of the host and bind to loopback.
dockerd --host "unix://$dir/docker.sock" --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" \
  --storage-driver vfs --bridge none --iptables=false --ip6tables=false >"$dir/log" 2>&1 & pid=$!
for _ in $(seq 300); do
  if DOCKER_HOST=unix://$dir/docker.sock docker version >/dev/null 2>&1; then
    printf 'DOCKER_HOST=unix://%s/docker.sock\nREADY\n' "$dir"
    wait "$pid"
    exit
  fi
  kill -0 "$pid" 2>/dev/null || break
  sleep 0.1
done
tail -20 "$dir/log" >&2
exit 1
