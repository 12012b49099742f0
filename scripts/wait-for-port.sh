#!/usr/bin/env bash
# Waits until something listens on a loopback port: wait-for-port.sh PORT PID [SECONDS]. Fails if the process ends.
set -euo pipefail
port=$1 pid=$2 seconds=${3:-30}
for _ in $(seq $((seconds * 10))); do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then exit 0; fi
  kill -0 "$pid" 2>/dev/null || { echo "process $pid ended before it listened on $port" >&2; exit 1; }
  sleep 0.1
done
echo "nothing listens on 127.0.0.1:$port after $seconds s" >&2
exit 1
