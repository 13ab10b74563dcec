#!/usr/bin/env bash
# Gets everything that the tests need, with progress shown, so that no test waits for a build of Kubernetes.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build -q -p localcluster
localcluster=${CARGO_TARGET_DIR:-target}/debug/localcluster
"$localcluster" build all >/dev/null
for asset in pause-image base-image llama-image model model-signing hub-client; do
  "$localcluster" asset "$asset" >/dev/null
done
