"""What is wrong with a GPU: a reason to end an attempt by, and what somebody can do."""

from dataclasses import dataclass

from server.wire.states import StopReason

FIXES = {
    StopReason.GPU_LOST: "look at `nvidia-smi` and at the kernel's log (`dmesg | grep -i xid`) on "
    "that host; reset the GPU or restart the host or container",
    StopReason.GPU_FAULT: "look at the kernel's log (`dmesg | grep -i xid`) on that host; a GPU "
    "that does it again is to be replaced",
    StopReason.DRIVER_MISMATCH: "install a driver that suits torch's CUDA, or a build of torch "
    "that suits driver and GPU, on that host, and start the worker again",
    StopReason.GPU_MEMORY_TAKEN: "end what else uses that GPU (`nvidia-smi` lists it), or give "
    "the worker another one (CUDA_VISIBLE_DEVICES)",
}
# What drivers and torch say, in lower case. The first that fits counts.
SAID = {
    StopReason.GPU_MEMORY_TAKEN: ("out of memory",),
    StopReason.DRIVER_MISMATCH: (
        "driver version is insufficient",
        "driver on your system is too old",
        "forward compatibility",
        "version mismatch",
        "has no kernels for",
        "no kernel image",
        "not compiled with cuda",
        "system has unsupported display driver",
    ),
    StopReason.GPU_LOST: (
        "no cuda-capable device",
        "no cuda gpus are available",
        "no nvidia driver",
        "invalid device ordinal",
        "this host has 0 gpu",
        "busy or unavailable",
        "gpu is lost",
        "fallen off the bus",
        "system not yet initialized",
        "unknown error",  # of a driver whose GPU went away, and of a host that slept
    ),
    StopReason.GPU_FAULT: (
        "uncorrectable",
        "unspecified launch failure",
        "illegal memory access",
        "illegal instruction",
        "illegal address",
        "misaligned address",
        "hardware stack error",
        "launch timed out",
        "launch timeout",
        "contained",  # errors of memory on newer GPUs
        "cuda error",
    ),
}


# What a program does wrong, whatever GPU it is on.
OF_PROGRAMS = ("device-side assert", "operation not supported", "invalid argument")


@dataclass(frozen=True)
class Trouble:
    """Something that keeps jobs from using a GPU.

    Attributes:
        reason: one of FIXES.
        said: by whom it was noticed.
    """

    reason: StopReason
    said: str

    def __str__(self) -> str:
        """With what can be done."""
        return f"{self.reason}: {self.said}; {FIXES[self.reason]}"


def trouble_of(said: str) -> Trouble | None:
    """What a message means, if it speaks of a GPU."""
    lower = said.lower()
    if any(each in lower for each in OF_PROGRAMS):
        return None
    for reason, words in SAID.items():
        if any(each in lower for each in words):
            return Trouble(reason, said.strip().partition("\n")[0][:500])
    return None
