# Becomes a component of a cluster, and is on record before it is one, so that nothing ever runs that nobody can end.
# Usage: sh -c THIS launch RECORD CGROUP PROGRAM ARGUMENT...
record=$1 group=$2
shift 2
read -r boot </proc/sys/kernel/random/boot_id || exit 1
read -r stat </proc/self/stat || exit 1
started() { shift 19; echo "$1"; }
start=$(started ${stat##*) })
if [ -n "$group" ]; then
    echo "$$" >"$group/cgroup.procs" || exit 1
fi
# Fails, and ends here, when the cluster is being taken down: the directory of records is the first thing to go.
echo "$$ $start $boot" >"$record" || exit 1
# A session of its own: what ends the terminal does not end the cluster.
exec setsid "$@"
