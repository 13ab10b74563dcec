#!/usr/bin/env bash
# Builds what is measured, measures it beside its peer, prints one table, and writes target/bench/NAME.json.
#
#   ./benches/run.sh                    all of them
#   ./benches/run.sh verify fetch       these: verify, trust, fetch, manager, scale, size
#
# RUNS=n: how often each is run (default: 11 verify, 5 fetch). SECONDS_AT_REST=n: how long the manager is watched (60).
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
echo "Building the release binaries." >&2
cargo build --release --workspace --bins >&2
mkdir -p target/bench
cc -O2 -Wall -o target/bench/measure benches/measure.c
# Python would leave files beside what it imports.
export PYTHONDONTWRITEBYTECODE=1
exec python3 benches/bench.py --bin "$target/release" --out target/bench "$@"
