#!/usr/bin/env bash
# Builds bonafide-helper and prints its path. It is linked statically, because it runs in the images of others; the target is
# named, since only then the flag is not for what runs while building.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static' \
  cargo build --quiet --locked --profile helper --package bonafide-helper --features program --target "$target"
printf '%s\n' "$(realpath "${CARGO_TARGET_DIR:-target}")/$target/helper/bonafide-helper"
