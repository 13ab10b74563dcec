#!/usr/bin/env bash
# Builds the programs of the kept releases from the history, and prints the folder that has them: VERSION/bonafide for each release
# under tests/data/releases that says of which commit it is. What is built is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
programs=$target/releases
for release in tests/data/releases/*/; do
  version=$(basename "$release")
  [ -e "$release/commit" ] && [ ! -x "$programs/$version/bonafide" ] || continue
  commit=$(cat "$release/commit")
  tree=$(mktemp -d)
  trap 'git worktree remove --force "$tree" 2>/dev/null; rm -rf "$tree"' EXIT
  git worktree add --quiet --detach "$tree" "$commit" >&2 || {
    echo "The history of this clone does not reach back to release $version, commit $commit: git fetch --unshallow" >&2
    exit 1
  }
  echo "Building the program of release $version, commit $commit." >&2
  (cd "$tree" && CARGO_TARGET_DIR=$programs/build cargo build --quiet -p bonafide --bin bonafide) >&2
  mkdir -p "$programs/$version"
  cp "$programs/build/debug/bonafide" "$programs/$version/bonafide"
  git worktree remove --force "$tree"
done
rm -rf "$programs/build"
echo "$programs"
