"""What it costs to find out whether a model is genuine: on the command line beside the reference client, and in a cluster when a
policy changes."""

import hashlib
import json
import pathlib
import threading
import time

import scale

SIZES = {1: 11, 1000: 11, 10000: 3}
PEER = "model_signing verify key"


def model(root, files):
    """A directory with so many small files."""
    for number in range(files):
        path = root / f"part-{number // 100}" / f"file-{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hashlib.sha256(str(number).encode()).digest())
    return root


def verifying(tools, bench):
    rows, samples = [], {}
    program = pathlib.Path(tools.asset("model-signing"))
    for files, runs in SIZES.items():
        directory = model(tools.work / f"files-{files}", files)
        bench.say(f"trust: {files} files, {runs} times each")
        public = bench.sign(tools, directory)
        signature = directory / "model.sig"
        found = bench.in_turn(
            tools,
            bench.RUNS or runs,
            lambda: ([tools.bonafide, "verify", directory, "--key", public], bench.ENV),
            lambda: ([program, "verify", "key", directory, "--signature", signature, "--public_key", public], bench.ENV),
        )
        rows += bench.compared(f"verify {files:,} file{'s' if files > 1 else ''} of 32 bytes, by a key", found, PEER)
        samples[f"verify {files}"] = found
    return rows, samples


class Verdicts:
    """When which ModelDeployment was seen with which TRUST."""

    def __init__(self, api):
        self.trust, self.changed = {}, threading.Condition()
        api.watch(f"{scale.GROUP}/modeldeployments", "application/json", self.see)
        time.sleep(1)

    def see(self, event, when):
        name, status = event["object"]["metadata"]["name"], event["object"].get("status") or {}
        with self.changed:
            self.trust[name] = (status.get("trust"), when)
            self.changed.notify_all()

    def all(self, names, trust, seconds):
        """Waits until all have it; when the last got it."""
        done = lambda: all(self.trust.get(name, (None, 0))[0] == trust for name in names)
        with self.changed:
            if not self.changed.wait_for(done, seconds):
                raise SystemExit(f"trust: not every ModelDeployment is {trust} within {seconds} s")
            return max(self.trust[name][1] for name in names)


def recalling(tools, bench):
    """How long it takes from a policy that denies everything until every status says so, and back."""
    root = tools.work / "hub"
    (root / "acme" / "small-0").mkdir(parents=True)
    (root / "acme" / "small-0" / "small.gguf").write_bytes(bytes(range(256)) * 4)
    public = bench.sign(tools, root / "acme" / "small-0")
    for number in range(1, scale.MODELS):
        scale.shutil.copytree(root / "acme" / "small-0", root / "acme" / f"small-{number}")
    kubectl, admin, config, kubeconfig = bench.install(tools, root, public)
    state = admin.parent.parent
    for name in ("kube-controller-manager", "kube-scheduler"):
        scale.os.kill(int((state / "pid" / name).read_text().split()[0]), scale.signal.SIGKILL)
    api, path = scale.Api(admin), f"{scale.GROUP}/namespaces/{bench.MODELS}/modeldeployments"
    running = bench.Manager(tools, kubectl, config, kubeconfig)
    scale.quiet(running)
    verdicts = Verdicts(api)
    bench.say(f"trust: {scale.COUNT} ModelDeployments")
    names = [f"model-{number}" for number in range(scale.COUNT)]
    scale.apply_all(api, path, names)
    verdicts.all(names, "Signed", 600)
    scale.quiet(running)

    policies, rows, samples = f"{scale.GROUP}/clustermodelpolicies", [], {}
    recall = {"apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterModelPolicy", "metadata": {"name": "recall"}}
    recall["spec"] = {"unmatched": "Accept", "deny": [{"name": "all", "source": "hf://acme/*"}]}
    for what, method, where, body, trust in (
        ("everything recalled", "POST", policies, recall, "Refused"),
        ("the recall lifted", "DELETE", f"{policies}/recall", None, "Signed"),
    ):
        bench.say(f"trust: {what}")
        own, cpu, began = running.writes(), running.cpu(), time.monotonic()
        api.ask(method, where, body)
        last = verdicts.all(names, trust, 300) - began
        _, after = scale.quiet(running)
        writes = (running.writes() - own) / scale.COUNT
        prefix = f"{scale.COUNT:,} models, {what}"
        rows += [
            bench.row(f"{prefix}: until the last status says so", "s", last, goal=5 if scale.COUNT == 1000 else None, digits=2),
            bench.row(f"{prefix}: CPU of the manager", "CPU s", after - cpu, digits=2),
            bench.row(f"{prefix}: writes per model (its status and its record)", "writes", writes, digits=2),
        ]
        samples[what] = {"seconds": last, "cpu": after - cpu, "writes": writes}
    version = json.loads(bench.output(*kubectl, "get", "--raw=/version"))["gitVersion"]
    return rows, samples, {"kubernetes": version}


def run(tools, bench):
    rows, samples = verifying(tools, bench)
    more, others, versions = recalling(tools, bench)
    program = pathlib.Path(tools.asset("model-signing"))
    versions["model_signing"] = bench.version(program, "--version")
    return rows + more, samples | others, versions
