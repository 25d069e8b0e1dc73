"""A Slurm cluster: a controller and nodes, each on a host of its own. No munge, no database."""

import shutil
import socket
from collections.abc import Sequence

from tests import hosts
from tests.hosts import Host

TOOLS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
CONF = """
ClusterName=orrery
SlurmctldHost={name}({head})
MailProg=/bin/true
MpiDefault=none
AuthType=auth/none
CredType=cred/none
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/slurm/state
SlurmdSpoolDir={folder}/slurm/spool
SlurmctldPidFile={folder}/slurm/ctld.pid
SlurmdPidFile={folder}/slurm/d.pid
SlurmctldLogFile={folder}/slurm/ctld.log
SlurmdLogFile={folder}/slurm/d.log
SlurmctldPort=6817
SlurmdPort=6818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1,batch_sched_delay=0
ReturnToService=2
SlurmdTimeout=4
SlurmctldTimeout=4
MessageTimeout=4
KillWait=5
MinJobAge=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=low Nodes=ALL Default=YES MaxTime=UNLIMITED PriorityTier=1 State=UP
PartitionName=high Nodes=ALL MaxTime=UNLIMITED PriorityTier=10 State=UP
"""
NODE = "NodeName={name} NodeAddr={address} CPUs=1 State=UNKNOWN"


def why_not() -> str | None:
    """Why there can be none here, if so."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"needs {', '.join(missing)}" if missing else hosts.why_not()


class Slurm:
    """Runs until its hosts end.

    Args:
        head: where its controller runs, and its commands.
        nodes: where jobs run, one at a time on each.
    """

    def __init__(self, head: Host, nodes: Sequence[Host]) -> None:
        self.head, self.nodes = head, {f"n{number}": node for number, node in enumerate(nodes)}
        self._conf = head.folder / "slurm.conf"
        lines = [NODE.format(name=name, address=node.address) for name, node in self.nodes.items()]
        text = CONF.format(
            name=socket.gethostname(), head=head.address, folder=head.folder, nodes="\n".join(lines)
        )
        for host in (head, *nodes):
            script = f'mkdir -p "$0/state" "$0/spool" && printf %s "$TEXT" > "{self._conf}"'
            host.run("sh", "-c", script, f"{head.folder}/slurm", TEXT=text)
        self.environment = {"SLURM_CONF": str(self._conf)}
        self.start_controller()
        for name in self.nodes:
            self.boot(name)
        for name in self.nodes:
            self.wait_for_node(name, "idle")

    def start_controller(self) -> None:
        """Start what gives jobs to nodes."""
        self.head.start("ctld.out", "slurmctld", "-D", "-i", "-f", str(self._conf))

    def boot(self, name: str) -> None:
        """Start a node."""
        self.nodes[name].start("d.out", "slurmd", "-D", "-N", name, "-f", str(self._conf))

    def wait_for_node(self, name: str, state: str) -> None:
        """Return once a node is in a state."""
        self.head.run(
            "sh",
            "-c",
            'for try in $(seq 100); do sinfo --noheader -n "$0" -o %T | grep -q "^$1" && exit 0; '
            "sleep 0.1; done; sinfo -N -l; exit 1",
            name,
            state,
            **self.environment,
        )

    def ask(self, *words: str) -> str:
        """What a command of Slurm prints."""
        return self.head.run(*words, **self.environment)

    def jobs(self, form: str = "%j|%T|%N") -> list[str]:
        """Jobs that have not ended, a text each."""
        return self.ask("squeue", "--noheader", f"--format={form}").splitlines()
