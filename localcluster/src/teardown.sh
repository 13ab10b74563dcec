# Ends a cluster and leaves nothing of it: no process, mount, network, control group or file.
#
# It is a script because it must outlive the process that started the cluster, however that one ends: with `wait` it
# first waits for the end of its standard input, which comes when that process is gone; the word `release` there means
# that the cluster is to live on. Whoever runs it, and however often, it does only what is left to do.
#
# Usage: sh -c THIS teardown STATE ID RUN NODE [wait]
#   STATE  the cluster's directory      ID    the start that is meant: a later start in the same place is left alone
#   RUN    the directory of the lock    NODE  the name of the nodes' control group and bridge; empty without nodes
state=$1 id=$2 run=$3 node=$4
if [ "${5-}" = wait ]; then
    read -r word && [ "$word" = release ] && exit 0
fi
exec 9>>"$run/lock" && flock 9 || exit 1
[ "$(cat "$state/id" 2>/dev/null)" = "$id" ] || exit 0

# Every process on record, unless its id belongs to another one by now. A process that is just being started finds no
# directory to record itself in, and gives up. What has ended and only waits for its parent is gone enough.
read -r boot </proc/sys/kernel/random/boot_id
started() { shift 19; echo "$1"; }
kill_recorded() {
    left=
    for record in "$state"/pid.ending/*; do
        read -r pid start booted <"$record" || continue
        read -r stat <"/proc/$pid/stat" || continue
        case ${stat##*) } in Z* | X*) continue ;; esac
        [ "$booted" = "$boot" ] && [ "$(started ${stat##*) })" = "$start" ] && kill -KILL "$pid" && left=yes
    done
} 2>/dev/null
[ -d "$state/pid" ] && mv "$state/pid" "$state/pid.ending"
tries=0
while kill_recorded; [ -n "$left" ] && [ $tries -lt 200 ]; do
    sleep 0.02
    tries=$((tries + 1))
done

if [ -n "$node" ]; then
    # Containers, and what watches over them, live in the nodes' control group. With the last of its processes, a node's
    # mounts and networks are gone too: the kernel sees to it.
    groups=$(ls -d /sys/fs/cgroup/"$node" /sys/fs/cgroup/*/"$node" 2>/dev/null)
    tries=0
    while [ -n "$groups" ] && [ $tries -lt 200 ]; do
        pids=$(find $groups -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u)
        if [ -n "$pids" ]; then
            kill -KILL $pids 2>/dev/null
        else
            find $groups -depth -type d -exec rmdir {} + 2>/dev/null
            groups=$(ls -d $groups 2>/dev/null)
        fi
        [ -n "$groups" ] && sleep 0.05
        tries=$((tries + 1))
    done
    ip link del "$node" 2>/dev/null
    left=
    for claim in "$run"/node*; do
        [ "$(cat "$claim" 2>/dev/null)" = "$state" ] && rm -f "$claim"
        [ -e "$claim" ] && left=yes
    done
    # The places of nodes' mounts, where there were none before: with the last cluster that has nodes.
    if [ -z "$left" ] && [ -f "$run/made-directories" ]; then
        sort -r "$run/made-directories" | xargs -r rmdir 2>/dev/null
        rm -f "$run/made-directories"
    fi
fi

# The id goes last, so that a teardown that is cut short is taken up again.
tries=0
while [ -n "$(find "$state" -mindepth 1 -maxdepth 1 ! -name id -print -quit)" ]; do
    find "$state" -mindepth 1 -maxdepth 1 ! -name id -exec rm -rf --one-file-system {} + 2>"$run/remove.log"
    tries=$((tries + 1))
    if [ $tries -gt 100 ]; then
        echo "localcluster: $state cannot be removed: $(tail -n 1 "$run/remove.log")" >&2
        exit 1
    fi
    [ -s "$run/remove.log" ] && sleep 0.05
done
rm -f "$run/remove.log" "$state/id" && rmdir "$state" || exit 1
# The directory that was made for it to be in.
parent=${state%/*}
case ${parent##*/} in bonafide-localcluster*) rmdir "$parent" 2>/dev/null ;; esac
exit 0
