"""Many ModelDeployments at once on a real API server without nodes and controllers: `make bench-scale`.

As KServe's control plane was measured beside which docs/benchmarks.md puts these figures: the API server, etcd, and the
manager; children and statuses are seen by watch; nothing else works on the objects.
"""

import base64
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import statistics
import subprocess
import threading
import time
import urllib.parse

COUNT = int(os.environ.get("COUNT", "1000"))
MORE = int(os.environ.get("MORE", "100"))
# Models on the hub: one for each ModelDeployment, or as many as are named, shared by all.
MODELS = int(os.environ.get("MODELS", str(COUNT + MORE)))
AT_REST = int(os.environ.get("SECONDS_AT_REST", "120"))
GROUP = "/apis/bonafide.dev/v1alpha1"
# What every ModelDeployment gets, by where it is watched.
CHILDREN = {
    "ControllerRevision": "/apis/apps/v1/controllerrevisions",
    "ConfigMap": "/api/v1/configmaps",
    "Service": "/api/v1/services",
    "Deployment": "/apis/apps/v1/deployments",
}
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


class Api:
    """The API server, asked over connections that stay open; one for each thread."""

    def __init__(self, kubeconfig):
        config = json.loads(pathlib.Path(kubeconfig).read_text())
        cluster = config["clusters"][0]["cluster"]
        where = urllib.parse.urlsplit(cluster["server"])
        self.host, self.port = where.hostname, where.port
        self.token = config["users"][0]["user"]["token"]
        self.tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        self.local = threading.local()

    def connection(self):
        if not hasattr(self.local, "connection"):
            self.local.connection = http.client.HTTPSConnection(self.host, self.port, context=self.tls, timeout=600)
        return self.local.connection

    def send(self, method, path, body=None, accept="application/json"):
        headers = {"Authorization": f"Bearer {self.token}", "Accept": accept, "Content-Type": "application/json"}
        connection = self.connection()
        connection.request(method, path, body and json.dumps(body), headers)
        return connection.getresponse()

    def ask(self, method, path, body=None, accept="application/json"):
        try:
            answer = self.send(method, path, body, accept)
        except http.client.RemoteDisconnected:
            # It was idle for too long; nothing was sent.
            del self.local.connection
            answer = self.send(method, path, body, accept)
        text = answer.read().decode()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text}")
        return text

    def watch(self, path, accept, see):
        """Calls `see(event, when)` for everything that happens from now on, in a thread of its own."""

        def run():
            listed = json.loads(self.ask("GET", f"{path}?limit=1", accept=accept.replace("Metadata;", "MetadataList;")))["metadata"]["resourceVersion"]
            for line in self.send("GET", f"{path}?watch=1&resourceVersion={listed}", accept=accept):
                see(json.loads(line), time.monotonic())

        threading.Thread(target=run, daemon=True).start()


class Seen:
    """When what of which ModelDeployment was seen first."""

    def __init__(self, api):
        self.children, self.statuses, self.changed = {kind: {} for kind in CHILDREN}, {}, threading.Condition()
        for kind, path in CHILDREN.items():
            api.watch(path, METADATA, lambda event, when, kind=kind: self.child(kind, event, when))
        api.watch(f"{GROUP}/modeldeployments", "application/json", self.status)
        time.sleep(1)

    def child(self, kind, event, when):
        name = (event["object"]["metadata"].get("labels") or {}).get("bonafide.dev/deployment")
        if name and name not in self.children[kind]:
            with self.changed:
                self.children[kind][name] = when
                self.changed.notify_all()

    def status(self, event, when):
        status, name = event["object"].get("status") or {}, event["object"]["metadata"]["name"]
        # The whole status: judged, and its revision with all its children is what the status speaks of.
        if status.get("trust") == "Signed" and status.get("revisions") and name not in self.statuses:
            with self.changed:
                self.statuses[name] = when
                self.changed.notify_all()

    def complete(self, names, seconds):
        """Waits until everything of all `names` was seen."""
        everything = [*self.children.values(), self.statuses]
        with self.changed:
            if not self.changed.wait_for(lambda: all(name in seen for seen in everything for name in names), seconds):
                missing = {kind: sum(name not in seen for name in names) for kind, seen in self.children.items()}
                missing["status"] = sum(name not in self.statuses for name in names)
                raise SystemExit(f"scale: not complete within {seconds} s, missing: {missing}")
        return max(seen[name] for seen in everything for name in names)


def asked(api):
    """What the API server answered so far, whoever asked, by verb and resource; without Leases."""
    counts = {}
    for labels, count in re.findall(r"^apiserver_request_total\{(.*)\} (\S+)$", api.ask("GET", "/metrics"), re.M):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if labels["resource"] not in ("leases", "") and labels["verb"] != "WATCH":
            key = f"{labels['verb']} {labels['resource']}/{labels['subresource']}".rstrip("/")
            counts[key] = counts.get(key, 0) + float(count)
    return counts


def requests(api):
    """The same as two numbers: writes, and reads."""
    counts = asked(api).items()
    reads = sum(count for key, count in counts if key.split()[0] in ("GET", "LIST"))
    return sum(count for _, count in counts) - reads, reads


def model_deployment(name):
    model = int(name.rsplit("-", 1)[1]) + (COUNT if name.startswith("more") else 0)
    return {
        "apiVersion": "bonafide.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {"model": {"source": f"hf://acme/small-{model % MODELS}"}},
    }


def apply_all(api, path, names):
    """Creates them over eight connections; an error of one is an error of all."""
    waiting, problems = list(reversed(names)), []

    def work():
        try:
            while waiting:
                api.ask("POST", path, model_deployment(waiting.pop()))
        except IndexError:
            pass
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise SystemExit(f"scale: {problems[0]}")


def quiet(running, seconds=5.0):
    """Waits until the process has needed less than a hundredth of a core for `seconds` (the Lease, and the metrics that we ask
    for); returns when that began, and the CPU until then."""
    history, deadline = [(time.monotonic(), running.cpu())], time.monotonic() + 600
    while time.monotonic() < deadline:
        time.sleep(0.1)
        now = (time.monotonic(), running.cpu())
        history.append(now)
        while now[0] - history[0][0] > seconds:
            if now[1] - history[0][1] < 0.01 * seconds:
                return history[0]
            history.pop(0)
    raise SystemExit("scale: the manager does not come to rest")


def percentile(samples, share):
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))]


def run(tools, bench):
    root = tools.work / "hub"
    model = root / "acme" / "small-0"
    model.mkdir(parents=True)
    (model / "small.gguf").write_bytes(bytes(range(256)) * 4)
    public = bench.sign(tools, model)
    for number in range(1, MODELS):
        shutil.copytree(model, root / "acme" / f"small-{number}")
    kubectl, admin, config, kubeconfig = bench.install(tools, root, public)
    # Nobody but the manager works on the objects.
    state = admin.parent.parent
    for name in ("kube-controller-manager", "kube-scheduler"):
        os.kill(int((state / "pid" / name).read_text().split()[0]), signal.SIGKILL)
    api, path = Api(admin), f"{GROUP}/namespaces/{bench.MODELS}/modeldeployments"

    running = bench.Manager(tools, kubectl, config, kubeconfig)
    quiet(running)
    idle, own, server, cpu = running.memory(), running.writes(), requests(api), running.cpu()
    seen, verbs = Seen(api), asked(api)
    bench.say(f"scale: {COUNT} ModelDeployments")
    names = [f"model-{number}" for number in range(COUNT)]
    began = time.monotonic()
    apply_all(api, path, names)
    created = time.monotonic() - began
    complete = seen.complete(names, 600) - began
    bench.say(f"scale: complete after {complete:.1f} s, of which the creation took {created:.1f} s")
    rested, after = quiet(running)
    rested -= began
    cpu, full, now = after - cpu, running.memory(), requests(api)
    writes, by_server = running.writes() - own, (now[0] - server[0] - COUNT, now[1] - server[1])
    by_verb = {key: round((count - verbs.get(key, 0)) / COUNT, 2) for key, count in asked(api).items() if count > verbs.get(key, 0)}
    by_kind = dict(re.findall(r'^bonafide_api_writes_total\{(.*)\} (\S+)$', running.metrics(), re.M))

    bench.say(f"scale: requests per object {json.dumps(by_verb)}")
    bench.say(f"scale: {AT_REST} s at rest")
    own, server, rest_cpu = running.writes(), requests(api), running.cpu()
    time.sleep(AT_REST)
    rest = {"own": running.writes() - own, "server": requests(api)[0] - server[0], "cpu": running.cpu() - rest_cpu}

    bench.say(f"scale: one more object, {MORE} times")
    children, statuses = [], []
    for number in range(MORE):
        name = f"more-{number}"
        at = time.monotonic()
        api.ask("POST", path, model_deployment(name))
        seen.complete([name], 60)
        children.append((max(of[name] for of in seen.children.values()) - at) * 1000)
        statuses.append((seen.statuses[name] - at) * 1000)
        time.sleep(0.1)

    bench.say("scale: a restart")
    quiet(running, 3)
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(20)
    server, began = requests(api), time.monotonic()
    running = bench.Manager(tools, kubectl, config, kubeconfig)
    rested_again, restart_cpu = quiet(running)
    restart = rested_again - began
    now = requests(api)
    again = {"own": running.writes(), "server": now[0] - server[0], "reads": now[1] - server[1], "cpu": restart_cpu}

    watched = 5 * COUNT + min(MODELS, COUNT)
    row, mib = bench.row, 2**20
    peer = "KServe 0.16.0, measured apart"
    at = lambda figure: figure if COUNT == 1000 else None
    rows = [
        row(f"{COUNT} objects: until all children and statuses", "s", complete, at(210.4), peer, at(20), digits=1),
        row(f"{COUNT} objects: until quiet", "s", rested, digits=1),
        row(f"{COUNT} objects: CPU of the manager until quiet", "CPU s", cpu, at(19.5), peer, at(5), digits=2),
        row("writes per object, its own count", "writes", writes / COUNT, 4, peer, digits=2),
        row("writes per object, the API server's count", "writes", by_server[0] / COUNT, 5, peer, digits=2),
        row("reads per object", "reads", by_server[1] / COUNT, 8, peer, digits=2),
        row("memory, idle", "MiB", idle["VmRSS"] / mib, 64, peer, 25, digits=1),
        row(f"memory, {COUNT} objects", "MiB", full["VmRSS"] / mib, at(116), peer, digits=1),
        row(f"memory, peak", "MiB", full["VmHWM"] / mib, digits=1),
        row("memory per watched object", "kB", (full["VmRSS"] - idle["VmRSS"]) / watched / 1000, goal=10, digits=2),
        row(f"{AT_REST} s at rest: writes, its own count", "writes", rest["own"], 0, peer, 0),
        row(f"{AT_REST} s at rest: writes, the API server's count", "writes", rest["server"], 0, peer, 0),
        row(f"{AT_REST} s at rest: CPU", "CPU s", rest["cpu"], 0.08, peer, digits=3),
        row("restart: until quiet", "s", restart, at(200.5), peer, at(5), digits=1),
        row("restart: writes", "writes", max(again["own"], again["server"]), at(1001), peer, 0),
        row("restart: reads", "reads", again["reads"], at(4005), peer),
        row("restart: CPU until quiet", "CPU s", again["cpu"], digits=2),
    ]
    for what, samples, (median, last) in (("children", children, (31, 105)), ("status", statuses, (None, None))):
        rows.append(row(f"one more object: {what}, median", "ms", statistics.median(samples), median, peer, digits=1))
        rows.append(row(f"one more object: {what}, p99", "ms", percentile(samples, 0.99), last, peer, at(30), digits=1))
    version = json.loads(subprocess.check_output([*kubectl, "get", "--raw=/version"]))["gitVersion"]
    samples = {"children": children, "statuses": statuses, "writes": by_kind, "requests per object": by_verb, "created": created, "idle": idle, "full": full}
    return rows, samples, {"kubernetes": version}
