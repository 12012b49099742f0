#!/usr/bin/env bash
# The conformance suite on everything that can be started here, as root, after `cargo test --workspace` has built the
# binaries: embedded server, TLS, all dialects, s3s-fs, versitygw, Ceph; then the random requests, and the page.
# A target that does not come up is a failure, and so is a result that is not declared. Installs what it needs.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${CARGO_TARGET_DIR:-target}/debug
# Before the first check: a compiler at work beside it spoils what is timed.
for server in s3s-fs versitygw ceph-rgw; do "scripts/$server.sh" --install; done
"$bin/conformance" run ci --strict --jobs "${CONFORMANCE_JOBS:-3}"
"$bin/conformance" diff versitygw
"$bin/conformance" diff ceph-rgw
"$bin/conformance" page --check
