"""Workers that have an end get what fits into the time that they have."""

from typing import Any

from tests.server.conftest import OrreryServer, assert_problem, epoch_metrics


def claim(server: OrreryServer, left_s: float | None) -> dict[str, Any] | None:
    body = {"claim_id": f"c-{left_s}", "kinds": ["train"]} | (
        {} if left_s is None else {"left_s": left_s}
    )
    answer = server.worker.post(f"/v1/workers/{server.register()}/claim", json=body)
    return answer.json() if answer.status_code == 200 else None


def handed_back(server: OrreryServer, seconds: list[float]) -> str:
    """The id of a job that waits again, after epochs of so many seconds."""
    job, assignment = server.start()
    rows = [epoch_metrics(n, epoch_time=each) for n, each in enumerate(seconds)]
    assert server.report(assignment["lease_id"], epochs=rows).status_code == 200
    server.finish(assignment["lease_id"], "stopped", "worker_lost")
    assert server.job(job["id"])["status"] == "queued"
    return job["id"]


def test_a_job_whose_epochs_take_longer_waits_for_another_worker(server: OrreryServer) -> None:
    job_id = handed_back(server, [90, 100, 80])
    assert claim(server, 99) is None
    assert (claim(server, 101) or {})["job"] == job_id


def test_a_worker_without_an_end_gets_everything(server: OrreryServer) -> None:
    job_id = handed_back(server, [1e6])
    assert (claim(server, None) or {})["job"] == job_id


def test_of_a_job_that_never_ran_nothing_is_known(server: OrreryServer) -> None:
    job = server.submit()
    assert (claim(server, 11) or {})["job"] == job["id"]


def test_the_next_job_that_fits_is_taken(server: OrreryServer) -> None:
    handed_back(server, [100])
    other = server.submit()
    assert (claim(server, 50) or {})["job"] == other["id"]


def test_time_is_a_number_of_seconds(server: OrreryServer) -> None:
    worker = server.register()
    for left_s in (-1, "50", 1e300):
        body = {"claim_id": "c", "left_s": left_s}
        assert_problem(server.worker.post(f"/v1/workers/{worker}/claim", json=body), 422)
