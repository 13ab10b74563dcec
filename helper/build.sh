#!/usr/bin/env bash
# Builds bonafide-helper and prints its path. It is linked statically, because it runs in the images of others: with musl, which makes
# it a third as large as glibc does; with glibc where musl cannot be had. The target is named, since only then the flags are not for
# what runs while building.
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
target=${host%-gnu}-musl
there() { [ -d "$(rustc --print target-libdir --target "$target")" ]; }
there || rustup --quiet target add "$target" >&2 || true
there || { echo "there is no Rust for $target: the helper is linked with glibc, and larger than it need be" >&2; target=$host; }
RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static' \
  cargo build --quiet --locked --profile helper --package bonafide-helper --features program --target "$target"
printf '%s\n' "$(realpath "${CARGO_TARGET_DIR:-target}")/$target/helper/bonafide-helper"
