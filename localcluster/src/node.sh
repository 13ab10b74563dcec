# Becomes the node: the process whose network and mounts containerd, the kubelet and kube-proxy share.
#
# Started with a network and a mount table of its own. All that is mounted on the node, by the kubelet, by containers or
# by a volume driver, is mounted in this table only, and goes with the last process that uses it. The usual places are
# the node's own, too, so that whatever counts on them (device plugins, volume drivers) finds them.
#
# Usage: sh -c THIS node DIRECTORY READY [PLACE]...: mounts a directory below DIRECTORY on every PLACE, then makes READY.
directory=$1 ready=$2
shift 2
# Mounts are to propagate between the node and its containers, and from this machine to the node, but not back.
mount --make-rslave / && mount --make-rshared / || exit 1
for place in "$@"; do
    own=$directory/$(echo "${place#/}" | tr / -)
    mkdir -p "$own" && mount --bind "$own" "$place" || exit 1
done
: >"$ready"
exec sleep infinity
