#!/usr/bin/env bash
# The whole way once, on a real Kubernetes: a model is signed, served and asked; then one byte of it is altered, and refused.
#
#   ./localcluster/demo.sh                 on this machine: needs root, builds Kubernetes once (about 20 minutes on two cores)
#   KUBECONFIG=… REGISTRY=… ./localcluster/demo.sh    on your cluster, whose nodes pull from REGISTRY (PLAIN_HTTP=1: without TLS)
#   KEEP=1                                 leaves everything running
set -euo pipefail
cd "$(dirname "$0")/.."
mode=release; build=(cargo build --release)
if [ "${DEBUG_BUILD:-}" = 1 ]; then mode=debug; build=(cargo build); fi
bin=${CARGO_TARGET_DIR:-target}/$mode
system=bonafide-system; models=models; source_ns=bonafide-demo
work=$PWD/target/demo; forward=""; started=$SECONDS

bold() { printf '\n\033[1m== %s\033[0m  (%d s)\n' "$*" $((SECONDS - started)); }
say() { printf '   %s\n' "$*"; }
run() { printf '   $ %s\n' "$*"; "$@" 2>&1 | sed 's/^/     /'; }
die() { printf '\nThe demo stopped: %s\n' "$*" >&2; exit 1; }

own_cluster=${KUBECONFIG:-}
cleanup() {
  code=$?
  [ -z "$forward" ] || kill "$forward" 2>/dev/null || true
  if [ $code -ne 0 ] && [ -n "${programs:-}" ]; then
    printf '\nWhat stands in the cluster now:\n' >&2
    kubectl get mdep,pods -A >&2 || true
    kubectl logs -n $system deploy/bonafide --tail 20 >&2 || true
  fi
  if [ "${KEEP:-}" = 1 ]; then return; fi
  if [ -n "$own_cluster" ]; then
    bold "Removing what the demo put into your cluster"
    kubectl delete namespace $models $source_ns --ignore-not-found --timeout=90s || true
    kubectl delete clustermodelpolicy/signed-by-acme inferenceengine/llama-cpp --ignore-not-found || true
    helm uninstall bonafide -n $system || true
  elif [ -x "$bin/localcluster" ]; then
    "$bin/localcluster" down || true
  fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

rm -rf "$work"; mkdir -p "$work"

bold "Building Bonafide"
say "The first run also builds Kubernetes itself from source: about 20 minutes on two cores, once. It tells how far it is."
"${build[@]}" --workspace --bins
localcluster=$bin/localcluster

bold "A model, and somebody who signs it (in target/demo)"
programs=$work/bin; mkdir -p "$programs"
link() { ln -sf "$(realpath "$1")" "$programs/$2"; }
link "$bin/bonafide" bonafide
link "$("$localcluster" asset model-signing)" model_signing
export PATH=$programs:$PATH
repository=$work/hub/acme/smollm2
mkdir -p "$repository"
cp "$("$localcluster" asset model)" "$repository/model.gguf"
printf -- '---\nlicense: apache-2.0\nbase_model: HuggingFaceTB/SmolLM2-135M-Instruct\n---\n# SmolLM2-135M-Instruct, quantised to Q4_1\n' > "$repository/README.md"
openssl ecparam -name prime256v1 -genkey -noout -out "$work/platform.key" 2>/dev/null
openssl ec -in "$work/platform.key" -pubout -out "$work/platform.pem" 2>/dev/null
(cd "$work" && run model_signing sign key hub/acme/smollm2 --private_key platform.key --signature hub/acme/smollm2/model.sig)
(cd "$work" && run bonafide verify hub/acme/smollm2 --key platform.pem)

bold "Images"
strip -o "$work/bonafide" "$bin/bonafide"
prefix=${REGISTRY:-localhost}
"$localcluster" image build --name "$prefix/bonafide:demo" --out "$work/bonafide.tar" --add "$work/bonafide=/bonafide" \
  --add "$(./helper/build.sh)=/bonafide-helper" --entrypoint '["/bonafide"]'
add=()
for file in "$repository"/*; do add+=(--add "$file=/hub/acme/smollm2/$(basename "$file")"); done
"$localcluster" image build --name "$prefix/bonafide-demo-hub:demo" --out "$work/hub.tar" --add "$localcluster=/localcluster" \
  "${add[@]}" --entrypoint '["/localcluster"]' --user 0:0
llama=$("$localcluster" asset llama-image)

if [ -n "$own_cluster" ]; then
  [ -n "${REGISTRY:-}" ] || die "with a KUBECONFIG set, set REGISTRY too: a registry that this machine may push to and your nodes may pull from"
  engine_image=$REGISTRY/llama-cpp:b11669
  plain=(); if [ "${PLAIN_HTTP:-}" = 1 ]; then plain=(--plain-http); fi
  "$localcluster" image push "$work/bonafide.tar" "$REGISTRY/bonafide:demo" "${plain[@]}"
  "$localcluster" image push "$work/hub.tar" "$REGISTRY/bonafide-demo-hub:demo" "${plain[@]}"
  "$localcluster" image push "$llama" "$engine_image" "${plain[@]}"
else
  bold "A real Kubernetes on this machine"
  "$localcluster" build all >/dev/null
  engine_image=localhost/llama-cpp:b11669
  "$localcluster" up --nodes 1 --patience 600 --images "$("$localcluster" asset pause-image)" "$llama" "$work/bonafide.tar" "$work/hub.tar" >/dev/null
  KUBECONFIG=$("$localcluster" kubeconfig); export KUBECONFIG
fi
for name in kubectl helm; do link "$("$localcluster" build $name | tail -n 1)" $name; done
run kubectl get nodes

bold "A hub that serves the model (it speaks the API of Hugging Face's)"
kubectl create namespace $source_ns --dry-run=client -o yaml | kubectl apply -f - >/dev/null
kubectl apply -f - >/dev/null <<Y
apiVersion: apps/v1
kind: Deployment
metadata: {name: hub, namespace: $source_ns}
spec:
  selector: {matchLabels: {app: hub}}
  template:
    metadata: {labels: {app: hub}}
    spec:
      containers:
      - name: hub
        image: $prefix/bonafide-demo-hub:demo
        imagePullPolicy: IfNotPresent
        args: [hub, --root=/hub, "--listen=0.0.0.0:8080", --keep]
        readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: hub, namespace: $source_ns}
spec: {selector: {app: hub}, ports: [{port: 80, targetPort: 8080}]}
Y
run kubectl rollout status -n $source_ns deploy/hub --timeout=120s

bold "Bonafide, installed with Helm"
run helm upgrade --install bonafide charts/bonafide --namespace $system --create-namespace --wait --timeout 180s \
  --set image.repository="$prefix/bonafide" --set image.tag=demo --set manager.replicas=1 \
  --set sources.hf.endpoint="http://hub.$source_ns.svc.cluster.local"

bold "Whom to trust: a policy for every namespace labelled models=signed"
kubectl create secret generic model-keys -n $system --from-file=platform.pem="$work/platform.pem" --dry-run=client -o yaml | kubectl apply -f - >/dev/null
kubectl create namespace $models --dry-run=client -o yaml | kubectl apply -f - >/dev/null
kubectl label namespace $models models=signed --overwrite >/dev/null
run kubectl apply -f examples/policy.yaml
# The engine's image of this demo comes from Debian's packages; an object of the same name takes the place of a built-in engine.
"$bin/bonafide" engines llama-cpp | sed "s#image: ghcr.io/ggml-org/llama.cpp:server-b11669#image: $engine_image#" | kubectl apply -f - >/dev/null

# Prints the line of one deployment whenever it changes, until its condition $2 is $3.
watch_until() {
  local line last="" deadline=$((SECONDS + ${4:-240})) format='     %-9s%-10s%-7s%s\n'
  # shellcheck disable=SC2059
  printf "$format" TRUST STATE READY WHY
  until [ "$(kubectl get mdep "$1" -n $models -o jsonpath="{.status.conditions[?(@.type==\"$2\")].status}" 2>/dev/null)" = "$3" ]; do
    line=$(kubectl get mdep "$1" -n $models -o jsonpath='{.status.trust}|{.status.state}|{.status.ready}|{.status.why}' 2>/dev/null || true)
    # shellcheck disable=SC2059
    if [ "$line" != "$last" ] && [ "${line#|}" = "$line" ]; then (IFS='|'; printf "$format" $line); last=$line; fi
    [ $SECONDS -lt $deadline ] || die "$1 did not get to $2=$3 in time"
    sleep 0.5
  done
  kubectl get mdep "$1" -n $models | sed 's/^/     /'
}

bold "Ten lines of YAML"
sed 's/^/     /' examples/smollm2.yaml
run kubectl apply -n $models -f examples/smollm2.yaml
watch_until smollm2 Ready True

bold "A question"
kubectl port-forward -n $models svc/smollm2 :80 > "$work/forward" 2>&1 & forward=$!
for _ in $(seq 100); do port=$(sed -n 's/^Forwarding from 127.0.0.1:\([0-9]*\) .*/\1/p' "$work/forward"); [ -z "$port" ] || break; sleep 0.1; done
[ -n "$port" ] || die "no way to the Service: $(cat "$work/forward")"
question='What is the capital of France? Answer in one sentence.'
say "POST http://smollm2.$models.svc/v1/chat/completions  ($question)"
curl -sS --fail-with-body --max-time 120 "http://127.0.0.1:$port/v1/chat/completions" -H 'content-type: application/json' \
  -d "{\"model\": \"smollm2\", \"temperature\": 0, \"max_tokens\": 48, \"messages\": [{\"role\": \"user\", \"content\": \"$question\"}]}" > "$work/answer"
answer=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["choices"][0]["message"]["content"].strip())' "$work/answer")
[ -n "$answer" ] || die "the model answered nothing: $(cat "$work/answer")"
printf '\n     \033[1m%s\033[0m\n' "$answer"

bold "One byte is altered at the source, and deployed as a second model"
run kubectl exec -n $source_ns deploy/hub -- /localcluster alter /hub/acme/smollm2/model.gguf
sed 's/name: smollm2$/name: smollm2-altered/; s/servedNames: .smollm2./servedNames: [smollm2-altered]/' examples/smollm2.yaml | kubectl apply -n $models -f - | sed 's/^/     /'
watch_until smollm2-altered Trusted False
say ""
kubectl get mdep smollm2-altered -n $models -o jsonpath='{.status.conditions[?(@.type=="Trusted")].message}' | fold -s -w 110 | sed 's/^/     /'
printf '\n'
[ "$(kubectl get mdep smollm2-altered -n $models -o jsonpath='{.status.conditions[?(@.type=="Trusted")].reason}')" = DigestMismatch ] || die "it was refused for another reason"
[ -z "$(kubectl get pods -n $models -l bonafide.dev/deployment=smollm2-altered -o name)" ] || die "there is a pod of the altered model"
say "No pod was made for it. The first model keeps serving what was signed."

bold "Where it ends"
run kubectl get mdep -n $models
if [ "${KEEP:-}" = 1 ]; then
  [ -n "$own_cluster" ] && ending="it is in your cluster" || ending="\`make down\` ends it"
  cat <<T

   It keeps running ($ending). To use it:
     export KUBECONFIG=$KUBECONFIG PATH=$programs:\$PATH
   What to try next:
     kubectl describe mdep smollm2-altered -n $models       why it was refused
     bonafide status -n $models                             the same as a tree, down to the pods
     kubectl patch mdep smollm2 -n $models --type=merge -p '{"spec":{"engine":{"contextLength":1024}}}'
     bonafide rollout history smollm2 -n $models            what each change made; \`undo\` goes back
     kubectl get modelartifacts -n $models -o yaml          every file with its digest, and what the policies say
     kubectl scale mdep smollm2 --replicas=0 -n $models     and back to 1
     kubectl apply -f examples/recall.yaml                  bytes of which no new replica starts
T
else
  printf '\n   KEEP=1 make demo leaves it running, and says what to try next.\n'
fi
