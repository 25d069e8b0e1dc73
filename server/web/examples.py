"""One example of every message, made of the messages themselves: an example cannot be invalid."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from nbody.config import Config
from nbody.metrics import METRIC_NAMES, EpochMetrics
from nbody.watcher import Phase
from server.errors import FieldProblem, InvalidRequest
from server.wire import (
    demand,
    files,
    history,
    job_lists,
    jobs,
    messages,
    service,
    sweeps,
    tokens,
    workers,
)
from server.wire.states import JobStatus, StopReason
from server.wire.sweeps import (
    Importance,
    SweepRequest,
    SweepStatus,
    SweepSummary,
    SweepView,
    TrialState,
    TrialView,
)

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
JOB = "job_01kjg3b2000000000000000000"
LEASE = "lease_01kjg3b2000000000000000000"
FOLDER = f"kepler/{JOB}/attempt-1"
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

VALUES: dict[str, float | int] = {
    "epoch": 12,
    "epoch_time": 0.93,
    "part1/trajectory_length": 4096,
    "part1/mean_retrain_iterations": 0.004,
    "part1/max_retrain_iterations": 2,
    "part1/mean_energy_error": 8.1e-5,
    "part1/acceptance_rate": 0.996,
    "part2/iterations": 200,
    "part2/final_pass_rate": 0.985,
    "part2/mean_rel_dE": 9.7e-5,
    "part2/max_rel_dE": 2.2e-4,
}
METRICS = EpochMetrics.model_validate({name: VALUES.get(name, 0) for name in METRIC_NAMES})
CONFIG = Config(save_name="kepler", epochs=51, steps_per_epoch=16, resample_each_epoch=True)
CHECKPOINT = files.CheckpointView(
    id="ckpt_01kjg3b2000000000000000000",
    job_id=JOB,
    attempt=1,
    epoch=10,
    pass_rate=0.985,
    efficiency=0.981,
    path=f"{FOLDER}/model/model_epoch_0010.pt",
    bytes=431_962,
    sha256=SHA,
    created_at=AT,
)
SUMMARY = jobs.JobSummary(
    id=JOB,
    name="kepler",
    kind="train",
    status=JobStatus.RUNNING,
    phase=Phase.GENERALIZE,
    stop_reason=None,
    priority=0,
    attempt=1,
    progress=jobs.Progress(epochs_done=13, epochs_total=51, fraction=13 / 51),
    metadata={"paper": "draft"},
    retry_of=None,
    created_at=AT,
    started_at=AT,
    finished_at=None,
)
LISTED = job_lists.ListedJob(
    **SUMMARY.model_dump(), owner="ada", values={"config/lr": 0.01, "part2/efficiency:max": 0.981}
)
GROUP = job_lists.JobGroup(
    id='{"config/lr": 0.01}',
    group={"config/lr": 0.01},
    jobs=5,
    values={
        "part2/efficiency:max": job_lists.Statistics(
            count=5, mean=0.977, std=0.004, min=0.971, median=0.978, max=0.981
        )
    },
)
ENTRY = jobs.QueueEntry(
    **SUMMARY.model_dump(),
    waits_for="a worker with a GPU: none of 2 has one; or set device to auto or cpu",
)
VIEW = jobs.JobView(
    **SUMMARY.model_dump(),
    config=CONFIG,
    warnings=[],
    failure=None,
    max_runtime_s=None,
    max_attempts=5,
    requires=jobs.Requirements(gpus=1, gpu_memory=42_949_672_960, labels={"site": "leiden"}),
    queue_position=None,
    waits_for=None,
    eta_s=35.3,
    latest_metrics=METRICS,
    latest_checkpoint=CHECKPOINT,
    result=None,
)
ARTIFACT = files.ArtifactView(
    id="file_01kjg3b2000000000000000000",
    job_id=JOB,
    attempt=1,
    name="simulation.npz",
    path=f"{FOLDER}/simulation.npz",
    bytes=81_920,
    sha256=SHA,
    created_at=AT,
)
INITIAL_CONDITIONS = files.InitialConditionsView(
    id="ic_01kjg3b2000000000000000000",
    name="pulsar and companions.csv",
    path="inputs/ic_01kjg3b2000000000000000000/pulsar_and_companions.csv",
    num_particles=3,
    dim=3,
    bytes=412,
    sha256=SHA,
    created_at=AT,
)
AUDIT_ENTRY = tokens.AuditEntry(
    id=41, at=AT, token_id="token_01kjg3b2000000000000000000", action="job.cancel", target=JOB
)
EVENT = history.EventView(
    id=7, job_id=JOB, at=AT, type="checkpoint", data={"epoch": 10, "path": CHECKPOINT.path}
)
WHEREABOUTS = history.Whereabouts(
    seed="4711",
    host="gpu-host",
    device="cuda",
    gpu="NVIDIA H200",
    versions={"python": "3.12.3", "torch": "2.11.0", "orrery": "0.1.0"},
)
ATTEMPT = history.AttemptView(
    whereabouts=WHEREABOUTS,
    id=1,
    worker_id="worker_01kjg3b2000000000000000000",
    started_at=AT,
    ended_at=None,
    first_epoch=0,
    status=None,
    stop_reason=None,
    detail=None,
)
GPU = workers.Gpu(name="NVIDIA H200", memory_bytes=150_754_820_096)
WORKER = workers.WorkerView(
    id="worker_01kjg3b2000000000000000000",
    name="gpu-host",
    host="gpu-host",
    slots=1,
    gpus=[GPU],
    versions={"orrery": "0.1.0"},
    registered_at=AT,
    last_seen_at=AT,
    jobs=[JOB],
)
SWEEP_REQUEST = SweepRequest.model_validate(
    {
        "name": "widths",
        "config": {"epochs": 20, "steps_per_epoch": 16},
        "space": {
            "lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "hidden_dims": {"type": "choice", "values": [[64, 64], [128, 128]]},
        },
        "n_trials": 20,
        "parallelism": 2,
    }
)
TRIAL = TrialView(
    id=7,
    job_id=JOB,
    state=TrialState.COMPLETE,
    params={"lr": 3.2e-3, "hidden_dims": [128, 128]},
    value=0.981,
)
SWEEP = SweepSummary(
    id="sweep_01kjg3b2000000000000000000",
    name="widths",
    status=SweepStatus.RUNNING,
    failure=None,
    objective=SWEEP_REQUEST.objective,
    direction=SWEEP_REQUEST.direction,
    n_trials=20,
    trials={TrialState.COMPLETE: 8, TrialState.RUNNING: 2},
    created_at=AT,
    finished_at=None,
)
TOKEN = tokens.TokenView(
    id="token_01kjg3b2000000000000000000",
    name="dashboard",
    role="viewer",
    created_at=AT,
    expires_at=None,
    revoked_at=None,
)


def _page(item: Any) -> "messages.Page[Any]":
    return messages.Page(data=[item], has_more=False, first_id=item.id, last_id=item.id)


_PROBLEM = InvalidRequest(FieldProblem("/config/epoch", "unknown field; did you mean 'epochs'?"))
MODELS: dict[str, BaseModel] = {
    "Assignment": workers.Assignment(
        job=JOB,
        attempt=2,
        lease_id=LEASE,
        lease_ttl_s=30,
        config=CONFIG,
        output_folder=f"kepler/{JOB}/attempt-2",
        resume_from=[workers.ResumePoint(epoch=10, path=CHECKPOINT.path, sha256=SHA)],
        runtime_left_s=None,
    ),
    "Arrived": files.Arrived(bytes=1_048_576, is_whole=False),
    "ArtifactView": ARTIFACT,
    "CancelRequest": jobs.CancelRequest(),
    "CheckpointView": CHECKPOINT,
    "ClaimRequest": workers.ClaimRequest(claim_id="slot-0-41", wait_s=2),
    "Vitals": workers.Vitals(
        gpus=[
            workers.GpuVitals(
                memory_used_bytes=2_147_483_648,
                utilisation=0.93,
                temperature_c=61,
                is_slowed=False,
                ecc_errors=0,
                foreign_memory_bytes=0,
            )
        ]
    ),
    "DrainRequest": workers.DrainRequest(),
    "FinishAnswer": workers.FinishAnswer(status=JobStatus.SUCCEEDED),
    "Health": service.Health(),
    "JobView": VIEW,
    "MetricsPage": history.MetricsPage(
        job_id=JOB, data=[METRICS.named()], has_more=False, last_epoch=12
    ),
    "NewToken": tokens.NewToken(**TOKEN.model_dump(), secret="orrery_…"),
    "Comparison": history.Comparison(
        keys=["part2/final_pass_rate"],
        data={JOB: [{"epoch": 12, "part2/final_pass_rate": 0.985}]},
    ),
    "Demand": demand.Demand(
        waiting=7, workers=[demand.HeldBy(name="orrery-4711", slots=2, jobs=2, attempts=5)]
    ),
    "Deleted": jobs.Deleted(id=JOB, files=True),
    "ManyJobs": job_lists.ManyJobs(
        action="cancel", where=job_lists.JobFilter(metadata={"paper": "draft"})
    ),
    "ManyActedOn": job_lists.ManyActedOn(
        data=[job_lists.ActedOn(id=JOB, status=JobStatus.CANCELLED)], has_more=False
    ),
    "JobChange": jobs.JobChange(name="kepler", priority=10, metadata={"paper": "accepted"}),
    "Page_AttemptView_": _page(ATTEMPT),
    "RetryRequest": jobs.RetryRequest(from_checkpoint=CHECKPOINT.id, config={"epochs": 100}),
    "Outcome": workers.Outcome(status="succeeded", stop_reason=StopReason.COMPLETED),
    "Page_ArtifactView_": _page(ARTIFACT),
    "Page_AuditEntry_": _page(AUDIT_ENTRY),
    "Page_CheckpointView_": _page(CHECKPOINT),
    "Page_EventView_": _page(EVENT),
    "InitialConditionsView": INITIAL_CONDITIONS,
    "DeletedFile": files.DeletedFile(id=INITIAL_CONDITIONS.id),
    "Page_InitialConditionsView_": _page(INITIAL_CONDITIONS),
    "Page_JobGroup_": _page(GROUP),
    "Page_ListedJob_": _page(LISTED),
    "Page_QueueEntry_": _page(ENTRY),
    "Page_TokenView_": _page(TOKEN),
    "Page_WorkerView_": _page(WORKER),
    "Report": workers.Report(first_epoch=0, phase=Phase.COLLECT, epochs=[METRICS]),
    "ReportAnswer": workers.ReportAnswer(accepted_through=12, command=None),
    "ResultView": jobs.ResultView(
        job_id=JOB,
        kind="simulate",
        data={"steps": 214, "force_evaluations": 215, "max_energy_error": 6.0e-3},
    ),
    "TokenRequest": tokens.TokenRequest(name="dashboard", role="viewer"),
    "TokenView": TOKEN,
    "Login": tokens.Login(token="orrery_…"),
    "Session": tokens.Session(
        token_id="token_01kjg3b2000000000000000000",
        name="ada",
        role="user",
        needs_token=True,
        has_cookie=True,
    ),
    "ColumnNames": service.ColumnNames(
        data=["status", "part2/efficiency:best", "part2/efficiency", "config/lr"],
        metrics=["part2/efficiency"],
        more_is_better=["part2/efficiency"],
    ),
    "Presets": service.Presets(
        data=[service.Preset(id="kepler_demo", config={"epochs": 12, "steps_per_epoch": 16})]
    ),
    "ValidationReport": jobs.ValidationReport(
        config=CONFIG,
        warnings=[],
        parameter_count=1_405_002,
        estimated_memory_bytes=420_000_000,
        estimated_checkpoint_bytes=236_000_000,
    ),
    "DeletedSweep": sweeps.DeletedSweep(id=SWEEP.id),
    "Importance": Importance(sweep_id=SWEEP.id, data={"lr": 0.8, "hidden_dims": 0.2}),
    "Page_SweepSummary_": _page(SWEEP),
    "Page_TrialView_": _page(TRIAL),
    "SweepRequest": SWEEP_REQUEST,
    "SweepView": SweepView(**SWEEP.model_dump(), request=SWEEP_REQUEST, best=TRIAL),
    "Version": service.Version(version="0.1.0"),
    "WorkerRegistration": workers.WorkerRegistration(name="gpu-host", host="gpu-host", gpus=[GPU]),
    "WorkerView": WORKER,
    "WorkerTerms": workers.WorkerTerms(
        id=WORKER.id, heartbeat_interval_s=1, lease_ttl_s=30, stall_timeout_s=600
    ),
}
EXAMPLES: dict[str, Any] = {
    "JobSubmission": {
        "name": "kepler",
        "config": {"epochs": 51, "steps_per_epoch": 16, "resample_each_epoch": True},
        "metadata": {"paper": "draft"},
    },
    "Problem": _PROBLEM.problem("req_01kjg3b2000000000000000000"),
    **{name: model.model_dump(mode="json", by_alias=True) for name, model in MODELS.items()},
}
