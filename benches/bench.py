"""Measures Bonafide beside its peers on this machine; called by run.sh. docs/benchmarks.md says what each row means.

Every unit is one of which less is better. A figure is the median of its runs; ours and the peer's are run in turn, so that what
else the machine does meets both. What a run needs is prepared before; nothing is measured that failed.
"""

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request

import scale
import trust

ROOT = pathlib.Path(__file__).resolve().parent.parent
MB, GB, MIB = 10**6, 10**9, 2**20
RUNS = int(os.environ.get("RUNS", "0"))
AT_REST = int(os.environ.get("SECONDS_AT_REST", "60"))
# Whoever runs this may sit behind a proxy; what is measured is on this machine.
ENV = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}


def say(text):
    print(text, file=sys.stderr, flush=True)


class Tools:
    """The programs, and what this run cleans up when it ends."""

    def __init__(self, binaries, out, work, cleanup):
        self.bonafide, self.localcluster = str(binaries / "bonafide"), str(binaries / "localcluster")
        self.out, self.work, self.cleanup, self.places = out, work, cleanup, {}

    def asset(self, name):
        if name not in self.places:
            self.places[name] = output(self.localcluster, "asset", name).strip()
        return self.places[name]

    def program(self, name):
        return output(self.localcluster, "build", name).split()[-1]

    def start(self, *command, log, env=ENV):
        process = subprocess.Popen([str(word) for word in command], env=env, stdout=open(log, "ab"), stderr=subprocess.STDOUT)
        self.cleanup.callback(end, process)
        return process

    def hub(self, root):
        """A hub that serves `root`, and its address."""
        port = free_port()
        process = self.start(self.localcluster, "hub", "--root", root, f"--listen=127.0.0.1:{port}", log=self.work / "hub.log")
        wait_for("the hub", lambda: answers(port), process)
        return f"http://127.0.0.1:{port}"


def end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def output(*command, **more):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True, env=more.pop("env", ENV), **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}")
    return done.stdout


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def wait_for(what, condition, process=None, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        if process and process.poll() is not None:
            sys.exit(f"{what}: the process ended with {process.returncode}")
        if time.monotonic() > deadline:
            sys.exit(f"{what} was not there within {seconds} s")
        time.sleep(0.2)


def ask(url):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as answer:
        return answer.read().decode()


def measured(tools, command, env=ENV):
    """Runs `command` once: its wall seconds, CPU seconds and peak bytes, children included."""
    result = tools.work / "measured"
    with open(tools.work / "output", "wb") as log:
        subprocess.run([tools.out / "measure", result, *map(str, command)], env=env, stdout=log, stderr=log, check=True)
    wall, cpu, peak, status = result.read_text().split()
    if status != "0":
        sys.exit(f"{' '.join(map(str, command))} ended with {status}:\n{(tools.work / 'output').read_text()[-2000:]}")
    return {"wall": float(wall), "cpu": float(cpu), "peak": int(peak)}


def in_turn(tools, runs, ours, peer):
    """Ours and the peer's, `runs` times in turn after one round that is not counted. Each is a function that gives a
    command and its environment, and is called before every run to prepare it."""
    found = {"ours": [], "peer": []}
    for turn in range(runs + 1):
        for name, prepare in (("ours", ours), ("peer", peer)):
            command, env = prepare()
            figures = measured(tools, command, env)
            if turn:
                found[name].append(figures)
    return found


def row(work, unit, ours, peer=None, peer_name=None, goal=None, digits=3):
    """One line: what was done, in which unit, and whether the goal, if there is one, was met ("at most")."""
    ours, peer = round(ours, digits), None if peer is None else round(peer, digits)
    ratio = round(peer / ours, 1) if peer is not None and ours else None
    holds = None if goal is None else ours <= goal
    figures = {"ours": ours, "peer": peer, "peer_name": peer_name, "ratio": ratio}
    return {"work": work, "unit": unit, **figures, "goal": goal, "holds": holds}


def compared(work, found, peer_name, wall="ms", per_gb=None, goals=None):
    """The rows of what `in_turn` found: CPU first, because it suffers least from what else the machine does."""
    goals = goals or {}
    median = {side: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for side, runs in found.items()}
    cpu, unit = (1 / per_gb, "CPU s/GB") if per_gb else (1000, "CPU ms")
    kinds = [("cpu", unit, cpu, 2), ("wall", wall, {"ms": 1000, "s": 1}[wall], 2), ("peak", "MiB", 1 / MIB, 1)]
    names = {"cpu": "CPU", "wall": "wall", "peak": "peak memory"}
    both = lambda key, scale: (median[side][key] * scale for side in ("ours", "peer"))
    return [
        row(f"{work}: {names[key]}", unit, *both(key, scale), peer_name, goals.get(key), digits)
        for key, unit, scale, digits in kinds
    ]


# ---------------------------------------------------------------- verify

# The library's own steps for one signature, without its command line and without reading any file of the model.
PEER_SIGNATURE = """
import pathlib, sys
from model_signing._signing import sign_ec_key, sign_sigstore_pb
signature = sign_sigstore_pb.Signature.read(pathlib.Path(sys.argv[2]))
manifest = sign_ec_key.Verifier(pathlib.Path(sys.argv[1])).verify(signature)
assert len(list(manifest.resource_descriptors())) == int(sys.argv[3])
"""


def keys(tools):
    private, public = tools.work / "key.pem", tools.work / "key.pub"
    if not public.exists():
        output("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private)
        output("openssl", "ec", "-in", private, "-pubout", "-out", public, stderr=subprocess.DEVNULL)
    return private, public


def sign(tools, directory, signature="model.sig"):
    private, public = keys(tools)
    output(tools.asset("model-signing"), "sign", "key", directory, "--private_key", private, "--signature", directory / signature)
    return public


def verify(tools):
    files = 1000
    model = tools.work / "files"
    for number in range(files):
        path = model / f"part-{number // 100}" / f"file-{number:04}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hashlib.sha256(str(number).encode()).digest())
    say(f"verify: model_signing signs {files} files")
    public = sign(tools, model)
    signature = model / "model.sig"
    program = pathlib.Path(tools.asset("model-signing"))
    python = program.parent / "python"
    runs = RUNS or 11

    say(f"verify: the signature alone, {runs} times each")
    alone = in_turn(
        tools,
        runs,
        lambda: ([tools.bonafide, "verify", model, "--key", public, "--signature-only"], ENV),
        lambda: ([python, "-c", PEER_SIGNATURE, public, signature, files], ENV),
    )
    say(f"verify: with the files, {runs} times each")
    whole = in_turn(
        tools,
        runs,
        lambda: ([tools.bonafide, "verify", model, "--key", public], ENV),
        lambda: ([program, "verify", "key", model, "--signature", signature, "--public_key", public], ENV),
    )
    rows = compared("signature over 1,000 files, none read", alone, "model_signing, as a library", goals={"wall": 30, "peak": 8})
    rows += compared("the same, and 1,000 files of 32 bytes hashed", whole, "model_signing verify key")
    versions = {"model_signing": version(program, "--version"), "python": version(python, "--version")}
    return rows, {"signature": alone, "files": whole}, versions


# ---------------------------------------------------------------- fetch


def content_digest(files):
    lines = "".join(f"{file['path']}\0{file['size']}\0{file['sha256'].removeprefix('sha256:')}\n" for file in files)
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def repository(root, name, source=None, size=None):
    """A repository of one file, `model.gguf`: a copy of `source`, or `size` bytes that no compression makes smaller."""
    path = root / "acme" / name / "model.gguf"
    path.parent.mkdir(parents=True)
    if source:
        shutil.copy(source, path)
    else:
        with open(path, "wb") as file:
            for _ in range(0, size, 10 * MB):
                file.write(os.urandom(10 * MB))
    return path


def fetch(tools):
    root = tools.work / "hub"
    small, large = repository(root, "small", tools.asset("model")), repository(root, "large", size=GB)
    models = [("98 MB", small, RUNS or 5), ("1 GB", large, RUNS or 3)]
    endpoint = tools.hub(root)
    table = tools.work / "sources.json"
    table.write_text(json.dumps({"hf": {"endpoint": endpoint}}))
    client = tools.asset("hub-client")
    rows, samples = [], {}
    for size, path, runs in models:
        name = path.parent.name
        commit = json.loads(ask(f"{endpoint}/api/models/acme/{name}"))["sha"]
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        files = [{"path": "model.gguf", "size": path.stat().st_size, "sha256": f"sha256:{sha256}"}]
        manifest = tools.work / f"{name}.json"
        manifest.write_text(json.dumps(files))
        sums = tools.work / f"{name}.sums"
        sums.write_text(f"{sha256}  model.gguf\n")
        into = tools.work / "into"

        def fresh():
            shutil.rmtree(into, ignore_errors=True)
            into.mkdir()
            # What the run before wrote is not to be written to the disk during this one.
            os.sync()

        def ours():
            fresh()
            words = ["--manifest", manifest, "--digest", content_digest(files), "--source", f"hf://acme/{name}"]
            words += ["--revision", commit, "--sources", table, "--into", into, "--termination-log", tools.work / "end"]
            return [tools.bonafide, "fetch", *words], ENV

        def peer():
            fresh()
            off = {f"HF_HUB_DISABLE_{what}": "1" for what in ("XET", "TELEMETRY", "UPDATE_CHECK", "PROGRESS_BARS")}
            env = ENV | off | {"HF_ENDPOINT": endpoint, "HF_HOME": str(into / "home")}
            script = 'set -e; "$1" download "$2" --revision "$3" --local-dir "$4"; cd "$4"; exec sha256sum --check "$5"'
            return ["sh", "-c", script, "sh", client, f"acme/{name}", commit, into / "tree", sums], env

        say(f"fetch: {size}, {runs} times each")
        samples[size] = in_turn(tools, runs, ours, peer)
        gigabytes = files[0]["size"] / GB
        rows += compared(f"fetch and verify {size}", samples[size], "hf download, sha256sum", wall="s", per_gb=gigabytes)
        fresh()
    versions = {"sha256sum": version("sha256sum", "--version")}
    python = pathlib.Path(client).parent / "python"
    hub = version(python, "-c", "import huggingface_hub; print(huggingface_hub.__version__)")
    return rows, samples, versions | {"huggingface_hub": hub, "python": version(python, "--version")}


# ---------------------------------------------------------------- manager

SYSTEM, MODELS, COUNT = "bonafide-system", "models", 20


class Manager:
    """The manager, as a process of this machine with the permissions that the chart gives it."""

    def __init__(self, tools, kubectl, config, kubeconfig):
        self.kubectl, self.port = kubectl, free_port()
        env = ENV | {"KUBECONFIG": str(kubeconfig), "RUST_LOG": "info"}
        words = ["--config", config, f"--listen=127.0.0.1:{self.port}", "--namespace", SYSTEM, "--identity", "bench"]
        self.process = tools.start(tools.bonafide, "manager", *words, log=tools.work / "manager.log", env=env)
        wait_for("the manager", lambda: "bonafide_leader 1" in self.metrics() and self.get("/readyz") is not None, self.process)

    def get(self, path):
        with contextlib.suppress(OSError):
            return ask(f"http://127.0.0.1:{self.port}{path}")

    def metrics(self):
        return self.get("/metrics") or ""

    def writes(self):
        """As the manager counts them, without the Lease."""
        return sum(map(float, re.findall(r"^bonafide_api_writes_total\S* (\S+)$", self.metrics(), re.M)))

    def memory(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return {key: int(kib) * 1024 for key, kib in re.findall(r"^(VmRSS|VmHWM|RssAnon|RssFile):\s+(\d+) kB", status, re.M)}

    def cpu(self):
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    def settle(self, quiet=15):
        """Waits until nothing was written for `quiet` seconds."""
        since, last = time.monotonic(), self.writes()
        deadline = since + 300
        while time.monotonic() - since < quiet:
            time.sleep(1)
            if (now := self.writes()) != last:
                since, last = time.monotonic(), now
            if time.monotonic() > deadline:
                say("manager: it did not come to rest within 300 s; what follows is measured all the same")
                return

    def rest(self):
        """What it does in AT_REST seconds in which nobody wants anything."""
        before, cpu, server = self.writes(), self.cpu(), server_writes(self.kubectl)
        time.sleep(AT_REST)
        after, cpu, now = self.writes(), self.cpu() - cpu, server_writes(self.kubectl)
        by_server = {key: count - server.get(key, 0) for key, count in now.items() if count > server.get(key, 0)}
        return {"memory": self.memory(), "writes": after - before, "cpu": cpu * 60 / AT_REST, "server": by_server}


def server_writes(kubectl):
    """Writes that the API server answered, whoever asked, by resource and verb."""
    counts = {}
    for labels, count in re.findall(r"^apiserver_request_total\{(.*)\} (\S+)$", output(*kubectl, "get", "--raw=/metrics"), re.M):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if labels["verb"] in ("POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"):
            name = "/".join(filter(None, (labels["resource"], labels["subresource"])))
            key = f"{labels['verb']} {name}"
            counts[key] = counts.get(key, 0) + float(count)
    return counts


def control_plane(tools):
    say("manager: a control plane, and Bonafide's chart on it")
    state = tools.work / "cluster"
    tools.cleanup.callback(subprocess.run, [tools.localcluster, "--state", state, "down"], env=ENV, stdout=subprocess.DEVNULL)
    output(tools.localcluster, "--state", state, "up", "--nodes", "0")
    kubeconfig = output(tools.localcluster, "--state", state, "kubeconfig").strip()
    return [tools.program("kubectl"), "--kubeconfig", kubeconfig], pathlib.Path(kubeconfig)


def install(tools, root, public):
    """A control plane with the chart, a hub that serves `root`, and a policy that trusts `public`: kubectl, the administrator's
    kubeconfig, and the manager's configuration and kubeconfig."""
    endpoint = tools.hub(root)
    kubectl, admin = control_plane(tools)
    chart = [ROOT / "charts/bonafide", "--namespace", SYSTEM, "--create-namespace", "--set", f"sources.hf.endpoint={endpoint}"]
    output(tools.program("helm"), "install", "bonafide", *chart, "--kubeconfig", admin)
    config = tools.work / "manager.yaml"
    config.write_text(output(*kubectl, "get", "configmap", "bonafide", "-n", SYSTEM, "-o", r"jsonpath={.data.manager\.yaml}"))
    own = json.loads(admin.read_text())
    own["users"][0]["user"] = {"token": output(*kubectl, "create", "token", "bonafide", "-n", SYSTEM, "--duration=24h").strip()}
    kubeconfig = tools.work / "manager.kubeconfig"
    kubeconfig.touch(0o600)
    kubeconfig.write_text(json.dumps(own))
    output(*kubectl, "create", "secret", "generic", "model-keys", "-n", SYSTEM, f"--from-file=platform.pem={public}")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MODELS, "labels": {"models": "signed"}}}
    for text in ((ROOT / "examples/policy.yaml").read_text(), json.dumps(namespace)):
        output(*kubectl, "apply", "--server-side", "-f", "-", input=text)
    return kubectl, admin, config, kubeconfig


def manager(tools):
    root = tools.work / "hub"
    model = repository(root, "small", tools.asset("model")).parent
    kubectl, _, config, kubeconfig = install(tools, root, sign(tools, model))

    def apply(text):
        output(*kubectl, "apply", "--server-side", "-f", "-", input=text)

    running = Manager(tools, kubectl, config, kubeconfig)
    running.settle()
    say(f"manager: {AT_REST} s with no ModelDeployment")
    idle = running.rest()
    for number in range(COUNT):
        kind = {"apiVersion": "bonafide.dev/v1alpha1", "kind": "ModelDeployment"}
        spec = {"model": {"source": "hf://acme/small"}}
        apply(json.dumps({**kind, "metadata": {"name": f"model-{number}", "namespace": MODELS}, "spec": spec}))
    signed = ["get", "mdep", "-n", MODELS, "-o", "jsonpath={.items[*].status.trust}"]
    wait_for(f"{COUNT} verdicts", lambda: output(*kubectl, *signed).split() == ["Signed"] * COUNT, running.process)
    running.settle()
    created = running.writes()
    if not created:
        sys.exit("manager: its metric counted no write while it made children, so it would count none at rest either")
    say(f"manager: {AT_REST} s with {COUNT} ModelDeployments")
    full = running.rest()

    rows = []
    for what, found, goal in (("manager, idle", idle, 25), (f"manager, {COUNT} models", full, None)):
        memory, server = found["memory"], found["server"]
        lease = sum(count for key, count in server.items() if key.endswith(" leases"))
        rows += [
            row(f"{what}: memory", "MiB", memory["VmRSS"] / MIB, goal=goal, digits=1),
            row(f"{what}: memory that is not the program's file", "MiB", memory["RssAnon"] / MIB, digits=1),
            row(f"{what}: peak memory", "MiB", memory["VmHWM"] / MIB, digits=1),
            row(f"{what}: CPU", "CPU s/min", found["cpu"], digits=3),
            row(f"{what}: writes in {AT_REST} s, its own count", "writes", found["writes"], goal=0),
            row(f"{what}: writes in {AT_REST} s, the API server's count", "writes", sum(server.values()) - lease, goal=0),
        ]
    rows.append(row("manager: writes per ModelDeployment until it rests", "writes", created / COUNT, digits=1))
    return rows, {"idle": idle, "full": full}, {"kubernetes": json.loads(output(*kubectl, "get", "--raw=/version"))["gitVersion"]}


# ---------------------------------------------------------------- size


def size(tools):
    stripped, archive = tools.work / "bonafide", tools.work / "image.tar"
    output("strip", "-o", stripped, tools.bonafide)
    helper = output(ROOT / "helper/build.sh").strip()
    words = ["--name=localhost/bonafide:bench", "--out", archive, "--add", f"{stripped}=/bonafide"]
    words += ["--add", f"{helper}=/bonafide-helper", '--entrypoint=["/bonafide"]']
    output(tools.localcluster, "image", "build", *words)
    with tarfile.open(archive) as image:
        read = lambda name: json.load(image.extractfile(name))
        blob = lambda descriptor: "blobs/" + descriptor["digest"].replace(":", "/")
        manifest = read(blob(read("index.json")["manifests"][0]))
    layers = [layer["size"] for layer in manifest["layers"]]
    rows = [
        row("stripped release binary", "MB", stripped.stat().st_size / MB, goal=25, digits=2),
        row("image, layers compressed with gzip", "MB", sum(layers) / MB, goal=25, digits=2),
    ]
    return rows, {"layers": layers}, {}


# ---------------------------------------------------------------- all of them


def version(*command):
    return output(*command, stderr=subprocess.STDOUT).strip().splitlines()[0]


def machine():
    cpu = re.search(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    memory = int(re.search(r"^MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.M)[1])
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**20, 1),
        "kernel": platform.release(),
        "load": os.getloadavg()[0],
    }


def table(rows):
    show = lambda value: "–" if value is None else f"{value:,g}" if abs(value) < 1000 else f"{value:,.0f}"
    heads = ["work", "unit", "ours", "peer", "times less", "goal", "holds", "peer is"]
    lines = [heads]
    for it in rows:
        holds = {True: "yes", False: "MISSED", None: "–"}[it["holds"]]
        goal = "–" if it["goal"] is None else f"≤ {it['goal']:g}"
        figures = [show(it[key]) for key in ("ours", "peer", "ratio")]
        lines.append([it["work"], it["unit"], *figures, goal, holds, it["peer_name"] or "–"])
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    lines.insert(1, ["-" * width for width in widths])
    for line in lines:
        cells = zip(line, widths, "<<>>>><<")
        print("  ".join(f"{cell:{side}{width}}" for cell, width, side in cells).rstrip())


def many(tools):
    return scale.run(tools, sys.modules[__name__])


def genuine(tools):
    return trust.run(tools, sys.modules[__name__])


BENCHMARKS = {"verify": verify, "trust": genuine, "fetch": fetch, "manager": manager, "scale": many, "size": size}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="the directory of the release binaries")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="where NAME.json is written, and `measure` lies")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)}; without one, all of them")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark named {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    found = []
    for name in arguments.names or BENCHMARKS:
        with contextlib.ExitStack() as cleanup:
            work = pathlib.Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix=f"bonafide-bench-{name}-")))
            tools = Tools(arguments.bin.resolve(), arguments.out.resolve(), work, cleanup)
            before = machine()
            rows, samples, versions = BENCHMARKS[name](tools)
            versions |= {"bonafide": version(tools.bonafide, "--version"), "rustc": version("rustc", "--version")}
            versions["commit"] = version("git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12")
        when = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        document = {"name": name, "when": when, "machine": before, "versions": versions, "rows": rows, "samples": samples}
        (arguments.out / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
        found += rows
    table(found)


main()
