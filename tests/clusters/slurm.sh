#!/bin/bash
# A Slurm cluster of two nodes on this machine: `slurm.sh up FOLDER`, `slurm.sh down FOLDER`. Needs root, and Debian's
# slurm-wlm and munge. SLURM_CONF=FOLDER/slurm.conf is then what sbatch and the others take.
set -eu
folder=$2
host=$(hostname -s)

case $1 in
up)
    mkdir -p "$folder/state" "$folder/spool.node1" "$folder/spool.node2" /run/munge
    chown munge: /run/munge && chmod 755 /run/munge
    pgrep -x munged > /dev/null || runuser -u munge -- munged
    cat > "$folder/slurm.conf" << EOF
ClusterName=leyden
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
AuthType=auth/munge
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SlurmdTimeout=20
ReturnToService=2
KillWait=60
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=node1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=2 State=UNKNOWN
NodeName=node2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17002 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=off
EOF
    export SLURM_CONF=$folder/slurm.conf
    slurmctld
    for node in node1 node2; do slurmd -N "$node"; done
    for _ in $(seq 60); do
        [ "$(sinfo --noheader --Node --partition main --states idle | wc -l)" -eq 2 ] && exit 0
        sleep 1
    done
    sinfo --Node >&2
    exit 1
    ;;
down)
    for name in slurmd.node1 slurmd.node2 slurmctld; do
        if [ -f "$folder/$name.pid" ]; then kill "$(cat "$folder/$name.pid")" 2> /dev/null || true; fi
    done
    ;;
esac
