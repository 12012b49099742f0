#!/usr/bin/env bash
# Runs Ceph's object gateway on a one-node cluster in memory, on loopback, until it is told to stop. As root.
# Prints how to reach it, then READY. Installs Debian's packages if they are not there; with --install that is all.
# Takes 15 seconds on an idle machine. Each step waits for a state, all together at most six minutes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v radosgw >/dev/null || ! command -v ceph-osd >/dev/null || ! command -v ceph >/dev/null; then
  "$here/apt.sh" ceph-mon ceph-osd radosgw ceph-common >&2
fi
[ "${1:-}" != --install ] || exit 0
deadline=$((SECONDS + 360)) dir=$(mktemp -d) fsid=$(cat /proc/sys/kernel/random/uuid)
osd=$(cat /proc/sys/kernel/random/uuid) pids=()
# The gateway never ends once the rest is gone, so it gets a moment and then no choice.
end() {
  trap - EXIT
  kill "${pids[@]}" 2>/dev/null || true
  for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "${pids[@]}" 2>/dev/null || break; sleep 0.2; done
  kill -9 "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$dir"
  exit "${code:-0}"
}
trap end EXIT INT TERM
fail() { echo "ceph-rgw: $*" >&2; tail -n 5 "$dir"/*.log >&2 || true; code=1; exit 1; }
step() { # step WHAT COMMAND...: repeats the command until it succeeds
  local what=$1 pid; shift
  echo "ceph-rgw: $what, ${SECONDS}s" >&2
  until timeout 90 "$@" >>"$dir/steps.log" 2>&1; do
    for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || fail "a daemon ended before: $what"; done
    [ $SECONDS -lt $deadline ] || fail "not within six minutes: $what"
    sleep 0.2
  done
}
read -r mon_port rgw_port < <(python3 -c 'import socket
all = [socket.socket() for _ in range(2)]
[s.bind(("127.0.0.1", 0)) for s in all]
print(*[s.getsockname()[1] for s in all])')
cat > "$dir/ceph.conf" <<CONF
[global]
fsid = $fsid
mon_host = v1:127.0.0.1:$mon_port
public_addr = 127.0.0.1
auth_supported = none
ms_bind_msgr2 = false
osd_pool_default_size = 1
osd_pool_default_pg_num = 1
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
# A store that places itself may ask before it knows the cluster, and ends ("wrong fsid"): it is placed below.
osd_class_update_on_start = false
osd_crush_update_on_start = false
memstore_device_bytes = 4294967296
mon_max_pg_per_osd = 1000
run_dir = $dir
log_file = $dir/\$name.log
mon_data = $dir/mon
osd_data = $dir/osd
rgw_dns_name = localhost
rgw_frontends = beast endpoint=127.0.0.1:$rgw_port
CONF
export CEPH_CONF=$dir/ceph.conf
mkdir "$dir/mon" "$dir/osd"
monmaptool --create --fsid "$fsid" --addv a "[v1:127.0.0.1:$mon_port]" "$dir/monmap" >&2
ceph-mon --mkfs -i a -c "$CEPH_CONF" --monmap "$dir/monmap" >&2
ceph-mon -f -i a -c "$CEPH_CONF" >&2 & pids+=($!)
step "the monitor answers" ceph --connect-timeout 20 mon stat
step "the store is known" ceph --connect-timeout 20 osd new "$osd"
step "the store has a place" ceph --connect-timeout 20 osd crush add osd.0 1.0 root=default host=local
ceph-osd --mkfs -i 0 -c "$CEPH_CONF" --osd-uuid "$osd" >&2
ceph-osd -f -i 0 -c "$CEPH_CONF" >&2 & pids+=($!)
step "the store is up" bash -c 'ceph --connect-timeout 20 osd stat | grep -q " 1 up"'
create=(radosgw-admin user create --uid suite --display-name suite --access-key access --secret-key secret-secret)
step "the user is there" bash -c 'radosgw-admin user info --uid suite || "$@"' create "${create[@]}"
radosgw -f -n client.rgw -c "$CEPH_CONF" >&2 & pids+=($!)
step "the gateway answers" python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$rgw_port/', timeout=20)"
printf 'ENDPOINT=http://127.0.0.1:%s\nACCESS_KEY=access\nSECRET_KEY=secret-secret\nREADY\n' "$rgw_port"
wait
