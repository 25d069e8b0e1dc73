"""What the slots of a worker have of its GPUs."""

import os
from pathlib import Path

from server.wire.states import OF_A_GPU, StopReason
from server.wire.workers import Gpu, Outcome, Vitals
from worker.gpus.devices import CHOICE, Device, find_devices
from worker.gpus.fitness import Fitness
from worker.gpus.troubles import Trouble
from worker.gpus.vitals import look_at
from worker.gpus.xids import Xids
from worker.workplace import GpuPlace

# What a run can look like whose GPU went away.
MAY_BE_ITS_LOSS = OF_A_GPU | {StopReason.WORKER_LOST, StopReason.STALLED, StopReason.ERROR}
MOST_WORDS, MOST_DETAIL = 1000, 4000


class GpusGone(Exception):
    """This worker had GPUs, and has none now."""

    def __init__(self, note: Path, why: str) -> None:
        super().__init__(
            f"gpu_lost: this worker had {note.read_text(encoding='utf-8').strip()} here, and {why} "
            "now; jobs would run on the CPU unseen. Look at `nvidia-smi`, at "
            "the driver and at how the container is started; if it is to work without a GPU from "
            f"now on, remove {note}"
        )


class Gpus:
    """The GPUs of one worker, shared between its slots.

    Args:
        slots: of the worker.
    """

    def __init__(self, slots: int, fitness: Fitness) -> None:
        self.devices = find_devices()
        self._slots, self._fitness, self._xids = slots, fitness, Xids()
        self._xids.soon()  # those that come from now on

    @property
    def told(self) -> list[Gpu]:
        """Those that the driver knows."""
        return [device.gpu for device in self.devices if device.gpu is not None]

    def remember(self, folder: Path, host: str) -> None:
        """Note what there is, for the next agent of this name on this host.

        Raises:
            GpusGone
        """
        note = folder / f"gpus-{host}"
        if self.told:
            names = ", ".join(gpu.name for gpu in self.told)
            note.write_text(f"{names}\n", encoding="utf-8")
        elif note.exists():
            chosen = os.environ.get(CHOICE)
            none_left = f"{CHOICE}={chosen} leaves none"
            raise GpusGone(note, "the driver knows no GPU" if chosen is None else none_left)

    def device_of(self, slot: int) -> Device | None:
        """Slots take turns at them."""
        return self.devices[slot % len(self.devices)] if self.devices else None

    def place_of(self, slot: int) -> GpuPlace | None:
        """What a slot's process has."""
        device = self.device_of(slot)
        if device is None:
            return None
        of_it = len(range(slot % len(self.devices), self._slots, len(self.devices)))
        return GpuPlace(device.id, must_work=device.must_work, share=1 / max(of_it, 1))

    def is_fit(self, slot: int) -> bool:
        """Whether a slot may take a job: it has no GPU, or one that works."""
        device = self.device_of(slot)
        return device is None or not device.must_work or self._fitness.is_fit(device)

    def explain(self, slot: int, outcome: Outcome) -> Outcome:
        """How an attempt ended, where its GPU is why."""
        device = self.device_of(slot)
        if device is None or not device.must_work or outcome.status != "failed":
            return outcome
        if outcome.stop_reason not in MAY_BE_ITS_LOSS:
            return outcome
        if outcome.stop_reason is StopReason.GPU_MEMORY_TAKEN:
            said = (outcome.detail or "").removeprefix(f"{outcome.stop_reason}: ").partition(";")[0]
            self._fitness.doubt(device, Trouble(outcome.stop_reason, said))
            return outcome
        self._fitness.doubt(device)
        xid = self._xids.soon().get(device.id)  # before the driver is opened again
        if (trouble := self._fitness.seen(device)) is None:
            return outcome
        of_driver = "" if xid is None else f", Xid {xid}"
        detail = f"{trouble} ({outcome.detail}{of_driver})"[:MOST_DETAIL]
        return Outcome(status="failed", stop_reason=trouble.reason, detail=detail)

    def vitals(self) -> Vitals:
        """How they are doing, and what keeps jobs from them."""
        told = [device for device in self.devices if device.gpu is not None]
        troubles = [self._fitness.trouble_of(device) for device in told]
        words = [None if each is None else str(each)[:MOST_WORDS] for each in troubles]
        gpus = [
            vitals.model_copy(update={"trouble": text})
            for vitals, text in zip(look_at(told, self._xids), words, strict=True)
        ]
        of_slots = [self.device_of(slot) for slot in range(self._slots)]
        every = [device and self._fitness.trouble_of(device) for device in of_slots]
        trouble = None if None in every else str(every[0])[:MOST_WORDS]
        return Vitals(gpus=gpus, trouble=trouble)
