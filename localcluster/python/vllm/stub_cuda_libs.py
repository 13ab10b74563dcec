"""Writes placeholder CUDA libraries next to torch's own, so that the CUDA build of torch imports
on a machine without the nvidia-* wheels. Every function returns an error; cudaGetDeviceCount
returns 100 (no device). Needs gcc, readelf, nm. usage: stub_cuda_libs.py <site-packages>/torch/lib"""
import collections, glob, os, re, subprocess, sys, tempfile

lib_dir = sys.argv[1]
libs = sorted(glob.glob(lib_dir + "/*.so*"))
have = {os.path.basename(p) for p in libs}
system = re.compile(r"^(lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s|gomp)|ld-linux.*)\.so")
missing = set()                                            # sonames nobody provides
want = collections.defaultdict(lambda: collections.defaultdict(set))  # soname -> version -> symbols
undefined, defined = set(), set()

def out(*cmd):
    return subprocess.run(cmd, capture_output=True, text=True, check=True).stdout

for lib in libs:
    for so in re.findall(r"NEEDED.*\[(.*)\]", out("readelf", "-d", lib)):
        if so not in have and not system.match(so):
            missing.add(so)
    owner, current = {}, None                              # version name -> soname
    for line in out("readelf", "-V", "-W", lib).partition("Version needs section")[2].splitlines():
        if m := re.search(r"File: (\S+)", line):
            current = m[1]
        elif m := re.search(r"Name: (\S+)\s+Flags", line):
            owner[m[1]] = current
    for line in out("nm", "-D", lib).splitlines():
        parts = line.split()
        name, _, version = parts[-1].partition("@")
        if len(parts) == 2 and parts[0] in "Uwv":
            version = version.lstrip("@")
            if not version:
                undefined.add(name)
            elif owner.get(version) not in have and not system.match(owner.get(version) or "libc.so"):
                want[owner[version]][version].add(name)
        elif len(parts) == 3:
            defined.add(name)

cudart = next(s for s in missing if s.startswith("libcudart."))
for name in undefined - defined:                           # unversioned: any loaded library will do
    if re.match(r"(__)?cu|nccl|nvrtc|nvshmem", name):
        want[cudart][""].add(name)

with tempfile.TemporaryDirectory() as tmp:
    for so in sorted(missing):
        code, script = "int _placeholder;\n", ""
        for version, names in want[so].items():
            for n in sorted(names):
                code += "int %s(void){return %d;}\n" % (n, 100 if n == "cudaGetDeviceCount" else 999)
            if version:
                script += "%s { global: %s; };\n" % (version, "; ".join(sorted(names)))
        open(tmp + "/s.c", "w").write(code)
        open(tmp + "/s.map", "w").write(script)
        extra = ["-Wl,--version-script=" + tmp + "/s.map"] if script else []
        subprocess.run(["gcc", "-w", "-fno-builtin", "-shared", "-fPIC", *extra, "-Wl,-soname," + so,
                        "-o", os.path.join(lib_dir, so), tmp + "/s.c"], check=True)
print("wrote", *sorted(missing))
