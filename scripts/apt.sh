#!/usr/bin/env bash
# Installs Debian packages, as root: apt.sh PACKAGE... Patient with a busy mirror and with another apt at work.
set -euo pipefail
for attempt in 1 2 3; do
  if apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends \
    -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300 "$@"; then
    exit 0
  fi
  echo "apt.sh: attempt $attempt failed" >&2
  sleep $((attempt * 5))
done
exit 1
