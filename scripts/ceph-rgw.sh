#!/usr/bin/env bash
# Runs Ceph's object gateway on a one-node cluster in memory, on loopback, until it is told to stop. As root.
# Prints how to reach it, then READY. Installs Debian's packages if they are not there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v radosgw ceph-mon ceph-osd >/dev/null; then
  { apt-get update && apt-get install -y --no-install-recommends ceph-mon ceph-osd radosgw ceph-common; } >&2
fi
read -r mon_port rgw_port < <(python3 -c 'import socket
all = [socket.socket() for _ in range(2)]
[s.bind(("127.0.0.1", 0)) for s in all]
print(*[s.getsockname()[1] for s in all])')
dir=$(mktemp -d) fsid=$(cat /proc/sys/kernel/random/uuid) osd=$(cat /proc/sys/kernel/random/uuid)
pids=()
trap 'trap - EXIT; kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$dir"; exit 0' EXIT INT TERM
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
monmaptool --create --fsid "$fsid" --addv a "[v1:127.0.0.1:$mon_port]" "$dir/monmap" >&2
mkdir "$dir/mon" "$dir/osd"
ceph-mon --mkfs -i a --monmap "$dir/monmap" -c "$CEPH_CONF" >&2
ceph-mon -f -i a -c "$CEPH_CONF" >&2 & pids+=($!)
timeout 60 ceph -c "$CEPH_CONF" osd new "$osd" >&2
ceph-osd --mkfs -i 0 --osd-uuid "$osd" -c "$CEPH_CONF" >&2
ceph-osd -f -i 0 -c "$CEPH_CONF" >&2 & pids+=($!)
timeout 60 bash -c "until ceph -c '$CEPH_CONF' osd stat | grep -q ' 1 up'; do sleep 0.2; done"
timeout 120 radosgw-admin -c "$CEPH_CONF" user create --uid suite --display-name suite --access-key access --secret-key secret-secret >&2
radosgw -f -n client.rgw -c "$CEPH_CONF" >&2 & pids+=($!)
"$here/wait-for-port.sh" "$rgw_port" "${pids[2]}" 120
printf 'ENDPOINT=http://127.0.0.1:%s\nACCESS_KEY=access\nSECRET_KEY=secret-secret\nREADY\n' "$rgw_port"
wait
