"""What those who run the service do and see: drain, audit, logs."""

import json
import logging
from typing import Any

import pytest

from server.log_format import REQUEST_ID, JsonLines, _add_request, configure
from tests.server.conftest import TINY, Orrery, OrreryServer, assert_problem


class TestDrain:
    def test_a_draining_worker_gets_no_more_jobs_and_keeps_what_it_has(
        self, server: OrreryServer
    ) -> None:
        worker = server.register()
        server.submit()
        first = server.claim(worker, "one")
        assert first is not None
        path = f"/v1/workers/{worker}/drain"
        view = server.admin.post(path).json()
        assert view["draining"]
        assert view["jobs"] == [first["job"]]
        waiting = server.submit()
        assert server.claim(worker, "two") is None
        assert server.claim(worker, "one") == first  # a lost answer is given again
        assert server.report(first["lease_id"]).status_code == 200
        other = server.claim()
        assert other is not None
        assert other["job"] == waiting["id"]
        server.submit()
        assert not server.admin.post(path, json={"draining": False}).json()["draining"]
        assert server.claim(worker, "two") is not None

    def test_only_admins_drain_and_only_workers_that_are_there(self, server: OrreryServer) -> None:
        path = f"/v1/workers/{server.register()}/drain"
        for role in ("user", "viewer", "worker"):
            assert_problem(server.new_client(role).post(path), 403, "forbidden")
        gone = f"/v1/workers/worker_{'0' * 26}/drain"
        assert_problem(server.admin.post(gone), 404, "not_found")

    def test_the_commands_say_so(self, server: OrreryServer, orrery: Orrery) -> None:
        worker = server.register()
        assert "(draining)" in orrery("drain", worker).out
        assert "(draining)" in orrery("workers").out
        assert "(draining)" not in orrery("drain", worker, "--undo").out


class TestAudit:
    def test_every_deed_of_a_person_is_noted_once(self, server: OrreryServer) -> None:
        admin = server.admin
        job = server.submit()
        path = f"/v1/jobs/{job['id']}"
        for action in ("pause", "resume", "cancel"):
            assert admin.post(f"{path}/{action}").is_success
        admin.patch(path, json={"name": "x"})
        again = admin.post(f"{path}/retry").json()
        admin.post(f"/v1/jobs/{again['id']}/pause")
        admin.delete(path)
        sweep = admin.post(
            "/v1/sweeps",
            json={"config": TINY, "space": {"lr": {"type": "choice", "values": [0.1]}}},
        ).json()
        admin.post(f"/v1/sweeps/{sweep['id']}/cancel")
        admin.delete(f"/v1/sweeps/{sweep['id']}")
        token = admin.post("/v1/tokens", json={"name": "n", "role": "viewer"}).json()
        admin.delete(f"/v1/tokens/{token['id']}")
        worker = server.register()
        admin.post(f"/v1/workers/{worker}/drain")

        def done_to(target: str) -> list[str]:
            page = admin.get("/v1/audit", params={"target": target}).json()
            return [entry["action"] for entry in reversed(page["data"])]

        assert done_to(job["id"]) == [
            f"job.{name}" for name in ("submit", "pause", "resume", "cancel", "change", "delete")
        ]
        assert done_to(again["id"]) == ["job.retry", "job.pause"]
        assert done_to(sweep["id"]) == ["sweep.create", "sweep.cancel", "sweep.delete"]
        assert done_to(token["id"]) == ["token.create", "token.revoke"]
        assert done_to(worker) == ["worker.drain"]

    def test_what_failed_or_was_a_repeat_is_not_noted(self, server: OrreryServer) -> None:
        headers = {"Idempotency-Key": "one"}
        ids = {
            server.admin.post("/v1/jobs", json={"config": TINY}, headers=headers).json()["id"]
            for _ in range(2)
        }
        job_id = ids.pop()
        assert_problem(server.admin.delete(f"/v1/jobs/{job_id}"), 409)
        page = server.admin.get("/v1/audit", params={"target": job_id}).json()
        assert [entry["action"] for entry in page["data"]] == ["job.submit"]

    def test_it_tells_who_it_was_and_only_admins_read_it(
        self, server: OrreryServer, orrery: Orrery
    ) -> None:
        token = server.admin.post("/v1/tokens", json={"name": "ann", "role": "user"}).json()
        job = server.submit(server.http(token["secret"]))
        page = server.admin.get("/v1/audit", params={"token": token["id"], "limit": 1}).json()
        assert [(e["action"], e["target"]) for e in page["data"]] == [("job.submit", job["id"])]
        for role in ("user", "viewer"):
            assert_problem(server.new_client(role).get("/v1/audit"), 403, "forbidden")
        assert token["id"] in orrery("audit", "--target", job["id"]).out


class TestLog:
    def record(self, message: str, **extra: Any) -> logging.LogRecord:
        logger = logging.getLogger("server.test")
        made = logger.makeRecord(
            "server.test", logging.INFO, "f", 1, message, (), None, extra=extra
        )
        _add_request(made)
        return made

    def test_a_line_for_programs_names_request_and_job(self) -> None:
        REQUEST_ID.set("req_1")
        line = json.loads(JsonLines().format(self.record("it\nbroke", job_id="job_1", status=200)))
        assert line["message"] == "it\nbroke"
        assert (line["request_id"], line["job_id"], line["status"]) == ("req_1", "job_1", 200)
        assert line["level"] == "info"
        REQUEST_ID.set(None)
        assert "request_id" not in json.loads(JsonLines().format(self.record("later")))

    def test_every_request_is_a_line(
        self, server: OrreryServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, logger="server.web.layers.access"):
            answer = server.admin.get("/v1/jobs")
        mine = [r for r in caplog.records if getattr(r, "path", "") == "/v1/jobs"]
        line = json.loads(JsonLines().format(mine[0]))
        assert line["status"] == 200
        assert line["method"] == "GET"
        assert answer.headers["x-request-id"].startswith("req_")

    @pytest.mark.parametrize("form", ["text", "json"])
    def test_it_goes_to_stderr(self, form: Any, capsys: pytest.CaptureFixture[str]) -> None:
        root = logging.getLogger()
        before = root.handlers[:], root.level
        try:
            configure(form)
            logging.getLogger("server.service").warning("lease %s", "x", extra={"job_id": "job_1"})
            logging.getLogger("httpx").info("POST https://hooks.example/?token=secret")
        finally:
            root.handlers[:], _ = before
            root.setLevel(before[1])
            logging.getLogger("server.web.layers.access").setLevel(logging.NOTSET)
            logging.getLogger("alembic").setLevel(logging.NOTSET)
            logging.getLogger("httpx").setLevel(logging.NOTSET)
        written = capsys.readouterr().err
        assert ("job_1" in written) == (form == "json")
        assert "lease x" in written
        assert "secret" not in written


class TestVitals:
    def test_what_a_worker_says_of_its_gpus_is_listed_and_measured(
        self, server: OrreryServer
    ) -> None:
        worker = server.register()
        gpus = [{"memory_used_bytes": 5, "utilisation": 0.5}, {"memory_used_bytes": 7}]
        path = f"/v1/workers/{worker}/vitals"
        assert server.worker.post(path, json={"gpus": gpus}).status_code == 204
        view = server.admin.get("/v1/workers").json()["data"][0]
        assert [gpu["memory_used_bytes"] for gpu in view["gpu_vitals"]] == [5, 7]
        assert view["gpu_vitals"][1]["temperature_c"] is None
        text = server.admin.get("/metrics").text
        assert f'orrery_gpu_utilization_ratio{{gpu="0",worker="{worker}"}} 0.5' in text
        assert f'orrery_gpu_utilization_ratio{{gpu="1",worker="{worker}"}}' not in text

    def test_only_the_worker_itself_says_so(self, server: OrreryServer) -> None:
        path = f"/v1/workers/{server.register()}/vitals"
        assert_problem(server.new_client("worker").post(path, json={"gpus": []}), 404, "not_found")
        assert_problem(server.admin.post(path, json={"gpus": []}), 403, "forbidden")

    def test_a_worker_that_is_silent_for_a_day_is_forgotten(self, server: OrreryServer) -> None:
        old, new = server.register(), server.register()
        server.worker.post(f"/v1/workers/{old}/vitals", json={"gpus": []})
        server.service.last_seen[old] -= 90_000
        server.register()
        assert old not in server.service.last_seen
        assert old not in server.service.vitals
        assert new in server.service.last_seen
