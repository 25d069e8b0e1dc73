"""Sweeps: searches whose trials are ordinary jobs."""

from collections.abc import Iterator
from typing import Any

import pytest

from nbody.config import Config
from server.queue.limits import Limits
from server.sweeps.optuna_search import StudyTrial, importance, should_prune, suggest
from server.wire.sweeps import SCORES, SweepRequest, TrialState
from tests.server.conftest import TINY, Orrery, OrreryServer, assert_problem, epoch_metrics

Json = dict[str, Any]
LR = {"type": "float", "low": 1e-4, "high": 1e-1, "log": True}
WIDTHS = {"type": "choice", "values": [[4], [8], [4, 4]]}


def request_of(**fields: Any) -> SweepRequest:
    return SweepRequest.model_validate({"space": {"lr": LR}} | fields)


def create(server: OrreryServer, **fields: Any) -> Json:
    body = {"config": TINY, "space": {"lr": LR, "hidden_dims": WIDTHS}, "n_trials": 6} | fields
    answer = server.admin.post("/v1/sweeps", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def move(server: OrreryServer, sweep: Json) -> Json:
    """A step of the sweep that knows all that has happened; what it is then.

    The server's own driver may be at a step that it began before. Then the first of ours counts for
    nothing, and the second sees what that one did.
    """
    for _ in range(2):
        server.call(server.service.sweeps.move(sweep["id"]))
    return server.admin.get(f"/v1/sweeps/{sweep['id']}").json()


def trials(server: OrreryServer, sweep: Json) -> list[Json]:
    return server.admin.get(f"/v1/sweeps/{sweep['id']}/trials").json()["data"]


def running(server: OrreryServer, sweep: Json) -> list[Json]:
    return [trial for trial in trials(server, sweep) if trial["state"] == "running"]


def finish_one(server: OrreryServer, value: float) -> Json:
    """Let a worker do the next trial, which gets this score."""
    assignment = server.claim()
    assert assignment is not None
    scores = {"stepper": {"calibrated_efficiency": value}}
    server.report(assignment["lease_id"], epochs=[epoch_metrics(e) for e in range(4)])
    assert server.finish(assignment["lease_id"], result=scores).status_code == 200
    return assignment


class TestThroughTheService:
    def test_trials_are_jobs_until_all_are_done(self, server: OrreryServer) -> None:
        sweep = create(server, name="widths", parallelism=2, metadata={"paper": "draft"})
        found: dict[str, float] = {}
        for number in range(6):
            move(server, sweep)
            under_way = running(server, sweep)
            assert len(under_way) == min(2, 6 - number)
            assignment = finish_one(server, value=0.5 + 0.1 * (number % 4))
            found[assignment["job"]] = 0.5 + 0.1 * (number % 4)
            trial = next(t for t in under_way if t["job_id"] == assignment["job"])
            assert assignment["config"]["lr"] == trial["params"]["lr"]
            assert assignment["config"]["hidden_dims"] == trial["params"]["hidden_dims"]
        sweep = move(server, sweep)
        assert sweep["status"] == "succeeded"
        assert sweep["trials"] == {"complete": 6}
        assert sweep["best"]["value"] == max(found.values())
        assert {t["job_id"]: t["value"] for t in trials(server, sweep)} == found
        job = server.job(sweep["best"]["job_id"])
        assert job["parent"] == sweep["id"]
        assert job["name"] == f"widths-{sweep['best']['id']}"
        assert job["metadata"]["paper"] == "draft"
        listed = server.admin.get("/v1/jobs", params={"metadata": f"sweep={sweep['id']}"}).json()
        assert len(listed["data"]) == 6

    def test_a_sweep_moves_by_itself(self, server: OrreryServer) -> None:
        sweep = create(server, n_trials=1)
        server.until(lambda: len(running(server, sweep)) == 1)
        finish_one(server, value=0.9)
        server.until(
            lambda: server.admin.get(f"/v1/sweeps/{sweep['id']}").json()["status"] == "succeeded"
        )

    def test_the_same_seed_asks_for_the_same_trials(self, server: OrreryServer) -> None:
        seen: list[list[Json]] = []
        for _ in range(2):
            sweep = create(server, n_trials=3, seed=7)
            for _ in range(3):
                move(server, sweep)
                finish_one(server, value=0.5)
            seen.append([trial["params"] for trial in trials(server, sweep)])
            move(server, sweep)
        assert seen[0] == seen[1]

    def test_a_move_is_made_once(self, server: OrreryServer) -> None:
        sweep = create(server)
        for _ in range(3):
            move(server, sweep)
        assert len(trials(server, sweep)) == 1

    def test_a_grid_with_an_impossible_pair_runs_the_others(self, server: OrreryServer) -> None:
        """The log head goes with features that have a time scale, and only with them."""
        sweep = create(
            server,
            sampler="grid",
            n_trials=20,
            space={
                "feature_type": {"type": "choice", "values": ["basic", "rich", "error_series"]},
                "dt_head": {"type": "choice", "values": ["log", "softplus"]},
            },
        )
        while move(server, sweep)["status"] == "running":
            if running(server, sweep):
                finish_one(server, value=0.5)
        assert move(server, sweep)["status"] == "succeeded"
        found = trials(server, sweep)
        assert [trial["state"] for trial in found].count("complete") == 4
        impossible = [trial["params"] for trial in found if trial["state"] == "failed"]
        assert impossible == [
            {"feature_type": kind, "dt_head": "log"} for kind in ("basic", "rich")
        ]

    def test_a_grid_of_nothing_but_the_impossible_is_refused(self, server: OrreryServer) -> None:
        space = {
            "feature_type": {"type": "choice", "values": ["basic", "rich"]},
            "dt_head": {"type": "choice", "values": ["log"]},
        }
        answer = server.admin.post("/v1/sweeps", json={"space": space, "sampler": "grid"})
        assert_problem(answer, 422, "invalid_request")

    def test_a_metric_of_the_last_epoch_can_be_the_objective(self, server: OrreryServer) -> None:
        sweep = create(server, objective="part2/mean_rel_dE", direction="minimize", n_trials=2)
        for mean in (3e-5, 2e-5):
            move(server, sweep)
            assignment = server.claim()
            assert assignment is not None
            rows = [epoch_metrics(e, **{"part2/mean_rel_dE": mean * (5 - e)}) for e in range(4)]
            server.report(assignment["lease_id"], epochs=rows)
            server.finish(assignment["lease_id"])
        sweep = move(server, sweep)
        assert sweep["best"]["value"] == pytest.approx(4e-5)
        assert sweep["best"]["id"] == 1

    def test_failed_and_cancelled_jobs_are_failed_trials(self, server: OrreryServer) -> None:
        sweep = create(server, n_trials=3)
        move(server, sweep)
        assignment = server.claim()
        assert assignment is not None
        server.finish(assignment["lease_id"], "failed", "diverged")
        move(server, sweep)
        server.admin.post(f"/v1/jobs/{running(server, sweep)[0]['job_id']}/cancel")
        move(server, sweep)
        finish_one(server, value=0.4)
        sweep = move(server, sweep)
        assert sweep["trials"] == {"failed": 2, "complete": 1}
        assert sweep["status"] == "succeeded"

    def test_a_sweep_whose_first_trials_all_fail_ends_and_says_why(
        self, server: OrreryServer
    ) -> None:
        sweep = create(server, n_trials=50)
        for _ in range(5):
            move(server, sweep)
            assignment = server.claim()
            assert assignment is not None
            server.finish(assignment["lease_id"], "failed", "oom", detail="out of memory")
        sweep = move(server, sweep)
        assert sweep["status"] == "failed"
        assert "out of memory" in sweep["failure"]
        assert len(trials(server, sweep)) == 5

    def test_a_sweep_that_fails_takes_its_other_trials_along(self, server: OrreryServer) -> None:
        sweep = create(server, n_trials=50, parallelism=7)
        move(server, sweep)
        for _ in range(5):
            assignment = server.claim()
            assert assignment is not None
            server.finish(assignment["lease_id"], "failed", "oom", detail="out of memory")
        sweep = move(server, sweep)
        assert sweep["status"] == "failed"
        assert set(sweep["trials"]) == {"failed"}
        states = [server.job(trial["job_id"])["status"] for trial in trials(server, sweep)]
        assert states[:5] == ["failed"] * 5
        assert len(states) >= 7
        assert set(states[5:]) == {"cancelled"}

    def test_trials_that_somebody_cancels_do_not_end_a_sweep(self, server: OrreryServer) -> None:
        sweep = create(server, n_trials=6)
        for _ in range(5):
            move(server, sweep)
            server.admin.post(f"/v1/jobs/{running(server, sweep)[0]['job_id']}/cancel")
        assert move(server, sweep)["status"] == "running"
        finish_one(server, value=0.4)
        assert move(server, sweep)["status"] == "succeeded"

    def test_a_retry_of_a_trial_is_a_job_of_its_own(self, server: OrreryServer) -> None:
        sweep = create(server, metadata={"paper": "draft"})
        move(server, sweep)
        job = finish_one(server, value=0.4)["job"]
        again = server.admin.post(f"/v1/jobs/{job}/retry").json()
        assert (again["parent"], again["metadata"]) == (None, {"paper": "draft"})

    def test_cancelling_ends_the_jobs_too(self, server: OrreryServer) -> None:
        sweep = create(server, parallelism=3)
        move(server, sweep)
        path = f"/v1/sweeps/{sweep['id']}"
        assert_problem(server.admin.delete(path), 409, "conflict")
        for _ in range(2):
            answer = server.admin.post(f"{path}/cancel")
            assert (answer.status_code, answer.json()["status"]) == (202, "cancelled")
        assert {server.job(t["job_id"])["status"] for t in trials(server, sweep)} == {"cancelled"}
        assert move(server, sweep)["trials"] == {"failed": 3}
        jobs = [trial["job_id"] for trial in trials(server, sweep)]
        assert server.admin.delete(path).json()["deleted"]
        assert_problem(server.admin.get(path), 404, "not_found")
        assert server.job(jobs[0])["id"] == jobs[0]

    def test_a_trial_that_is_worse_than_others_ends_early(self, server: OrreryServer) -> None:
        sweep = create(
            server,
            objective="part2/final_pass_rate",
            pruner="median",
            warmup_epochs=1,
            n_trials=7,
        )
        for _ in range(6):
            move(server, sweep)
            assignment = server.claim()
            assert assignment is not None
            server.report(assignment["lease_id"], epochs=[epoch_metrics(e) for e in range(4)])
            server.finish(assignment["lease_id"])
        move(server, sweep)
        assignment = server.claim()
        assert assignment is not None
        bad = [epoch_metrics(e, **{"part2/final_pass_rate": 0.1}) for e in range(3)]
        server.report(assignment["lease_id"], epochs=bad)
        sweep = move(server, sweep)
        assert sweep["trials"] == {"complete": 6, "pruned": 1}
        assert server.job(assignment["job"])["status"] == "cancelling"
        answer = server.report(assignment["lease_id"]).json()
        assert answer["command"]["action"] == "cancel"
        assert sweep["status"] == "succeeded"
        assert sweep["best"]["value"] == 1.0

    def test_a_sweep_that_has_nothing_to_do_changes_nothing(self, server: OrreryServer) -> None:
        sweep = create(server)
        move(server, sweep)
        before = server.admin.get(f"/v1/sweeps/{sweep['id']}").headers["etag"]
        for _ in range(3):
            move(server, sweep)
        assert server.admin.get(f"/v1/sweeps/{sweep['id']}").headers["etag"] == before

    def test_trials_wait_where_the_owner_has_enough_waiting_jobs(
        self, server: OrreryServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server.service.sweeps, "_limits", Limits(queued=2))
        sweep = create(server, parallelism=5)
        move(server, sweep)
        assert len(trials(server, sweep)) == 2
        finish_one(server, value=0.5)
        move(server, sweep)
        assert len(trials(server, sweep)) == 3

    def test_a_user_has_so_many_sweeps_at_a_time(
        self, server: OrreryServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("server.sweeps.rows.MOST_RUNNING", 1)
        create(server)
        body = {"config": TINY, "space": {"lr": LR}}
        answer = server.admin.post("/v1/sweeps", json=body)
        assert_problem(answer, 429, "limit_reached")
        assert server.new_client("user").post("/v1/sweeps", json=body).status_code == 201

    def test_the_same_key_and_body_make_one_sweep(self, server: OrreryServer) -> None:
        headers = {"Idempotency-Key": "once"}
        body: Json = {"space": {"lr": LR}, "n_trials": 2}
        first, again = (
            server.admin.post("/v1/sweeps", json=body, headers=headers) for _ in range(2)
        )
        assert first.status_code == again.status_code == 201
        assert first.json()["id"] == again.json()["id"]
        assert "idempotent-replayed" not in first.headers
        assert again.headers["idempotent-replayed"] == "true"
        other = server.admin.post("/v1/sweeps", json=body | {"n_trials": 3}, headers=headers)
        assert_problem(other, 422, "idempotency_key_reused")
        job = server.admin.post("/v1/jobs", json={"config": {}}, headers=headers)
        assert_problem(job, 422, "idempotency_key_reused")
        path = f"/v1/sweeps/{first.json()['id']}"
        server.admin.post(f"{path}/cancel")
        assert server.admin.delete(path).status_code == 200
        fresh = server.admin.post("/v1/sweeps", json=body, headers=headers)
        assert fresh.json()["id"] != first.json()["id"]

    def test_users_see_their_own_sweeps_only(self, server: OrreryServer) -> None:
        sweep = create(server)
        path = f"/v1/sweeps/{sweep['id']}"
        other = server.new_client("user")
        assert other.get("/v1/sweeps").json()["data"] == []
        for hidden in (path, f"{path}/trials", f"{path}/importance"):
            assert_problem(other.get(hidden), 404, "not_found")
        assert_problem(other.post(f"{path}/cancel"), 404, "not_found")
        assert_problem(other.delete(path), 404, "not_found")
        mine = other.post("/v1/sweeps", json={"space": {"lr": LR}, "config": TINY}).json()
        move(server, mine)
        assert len(other.get("/v1/jobs").json()["data"]) == 1
        listed = server.admin.get("/v1/sweeps", params={"status": "running", "limit": 1}).json()
        assert [s["id"] for s in listed["data"]] == [mine["id"]]
        assert listed["has_more"]

    @pytest.mark.parametrize(
        ("fields", "pointer"),
        [
            ({"space": {}}, "/space"),
            ({"space": {"learning_rate": LR}}, ""),
            ({"space": {"lr": LR | {"low": 1.0}}}, "/space/lr/float"),
            ({"space": {"lr": LR | {"low": -1.0}}}, "/space/lr/float"),
            ({"space": {"lr": LR | {"high": 1e308}}}, "/space/lr/float/high"),
            ({"space": {"epochs": {"type": "int", "low": 0, "high": 5}}}, "/space/epochs"),
            ({"space": {"hidden_dims": {"type": "choice", "values": [[4], "x"]}}}, "/space/hidden"),
            ({"space": {"lr": LR}, "config": {"epoch": 3}}, "/config/epoch"),
            ({"space": {"lr": LR}, "sampler": "grid"}, ""),
            (
                {"space": {"seed": {"type": "int", "low": 0, "high": 10**12}}, "sampler": "grid"},
                "",
            ),
            (
                {
                    "space": {"lr": {"type": "float", "low": 0, "high": 1, "step": 1e-300}},
                    "sampler": "grid",
                },
                "",
            ),
            ({"space": {"seed": {"type": "choice", "values": list(range(101))}}}, "/space/seed"),
            ({"space": {"lr": LR}, "objective": "loss"}, "/objective"),
            ({"space": {"lr": LR}, "pruner": "median"}, ""),
            ({"space": {"lr": LR}, "config": {"evaluation_orbits": 0}}, ""),
            ({"space": {"lr": LR}, "n_trials": 0}, "/n_trials"),
            ({"space": {"lr": LR}, "parallelism": 1000}, "/parallelism"),
        ],
    )
    def test_what_does_not_fit_is_refused_and_says_where(
        self, shared_server: OrreryServer, fields: Json, pointer: str
    ) -> None:
        answer = shared_server.admin.post("/v1/sweeps", json=fields)
        problem = assert_problem(answer, 422, "invalid_request")
        assert problem["errors"][0]["pointer"].startswith(pointer)

    def test_the_command_line_covers_it(
        self, server: OrreryServer, orrery: Orrery, tmp_path: Any
    ) -> None:
        file = tmp_path / "sweep.json"
        file.write_text('{"space": {"lr": {"type": "float", "low": 0.001, "high": 0.1}}}')
        config = tmp_path / "config.json"
        config.write_text('{"epochs": 4, "hidden_dims": [4], "num_orbits": 2}')
        done = orrery("sweep", "create", str(file), "--config", str(config), "--trials", "2")
        assert done.code == 0, done.err
        sweep = {"id": done.out.strip()}
        for value in (0.25, 0.75):
            move(server, sweep)
            finish_one(server, value=value)
        move(server, sweep)
        assert "succeeded" in orrery("sweep", "list").out
        shown = orrery("sweep", "show", sweep["id"]).out
        assert "0.75" in shown
        assert "0.25" in orrery("sweep", "trials", sweep["id"]).out
        assert orrery("sweep", "cancel", sweep["id"]).code == 4
        assert "deleted" in orrery("sweep", "delete", sweep["id"]).out


class TestSearch:
    def climb(self, request: SweepRequest, trials: int) -> Iterator[float]:
        """Values of an objective that is best at lr = 1e-2, trial by trial."""
        import math

        known: list[StudyTrial] = []
        for number in range(trials):
            params = suggest(request, known)
            assert params is not None
            value = -((math.log10(params["lr"]) + 2) ** 2)
            known.append(StudyTrial(number, TrialState.COMPLETE, params, value))
            yield value

    def test_tpe_comes_closer_than_chance(self) -> None:
        late = {
            sampler: sum(list(self.climb(request_of(sampler=sampler), 40))[20:])
            for sampler in ("tpe", "random")
        }
        assert late["tpe"] > late["random"] / 3

    def test_a_grid_is_gone_through_once(self) -> None:
        request = request_of(
            sampler="grid",
            space={
                "epochs": {"type": "int", "low": 1, "high": 5, "step": 2},
                "lr": {"type": "float", "low": 0.1, "high": 0.3, "step": 0.1},
                "hidden_dims": WIDTHS,
            },
        )
        known: list[StudyTrial] = []
        while (params := suggest(request, known)) is not None:
            known.append(StudyTrial(len(known), TrialState.COMPLETE, params, 0.0))
        assert len(known) == 27
        assert len({str(trial.params) for trial in known}) == 27
        assert {round(trial.params["lr"], 9) for trial in known} == {0.1, 0.2, 0.3}

    def test_a_grid_is_never_made_whole(self) -> None:
        wide = {"type": "float", "low": 0.0, "high": 9.999, "step": 1e-3}
        names = ("lr", "weight_decay", "momentum", "dropout", "min_efficiency")
        request = request_of(sampler="grid", space=dict.fromkeys(names, wide))
        assert suggest(request, []) == dict.fromkeys(names, 0.0)  # of 10^20 points

    def test_the_greatest_seed_works(self) -> None:
        request = request_of(seed=2**32 - 1)
        first = suggest(request, [])
        assert first is not None
        assert suggest(request, [StudyTrial(0, TrialState.COMPLETE, first, 0.0)]) is not None

    def test_suggestions_stay_within_the_space(self) -> None:
        request = request_of(
            space={
                "lr": LR,
                "hidden_dims": WIDTHS,
                "epochs": {"type": "int", "low": 10, "high": 1000, "log": True},
            }
        )
        known: list[StudyTrial] = []
        for number in range(30):
            params = suggest(request, known)
            assert params is not None
            assert 1e-4 <= params["lr"] <= 1e-1
            assert params["hidden_dims"] in WIDTHS["values"]
            assert isinstance(params["epochs"], int)
            assert 10 <= params["epochs"] <= 1000
            known.append(StudyTrial(number, TrialState.COMPLETE, params, float(number)))

    def test_trials_under_way_are_not_asked_for_again(self) -> None:
        request = request_of()
        known = [
            StudyTrial(k, TrialState.COMPLETE, {"lr": 10.0 ** (-1 - k / 8)}, -k / 4)
            for k in range(12)
        ]
        first = suggest(request, known)
        assert first is not None
        second = suggest(request, [*known, StudyTrial(12, TrialState.RUNNING, first)])
        assert second != first

    @pytest.mark.parametrize("pruner", ["median", "successive_halving"])
    def test_the_worst_of_many_is_pruned_and_the_best_is_not(self, pruner: str) -> None:
        request = request_of(pruner=pruner, objective="part2/final_pass_rate", warmup_epochs=2)
        series = {epoch: epoch / 10 for epoch in range(9)}
        known = [
            StudyTrial(k, TrialState.COMPLETE, {"lr": 1e-2}, v[8], series=v)
            for k in range(8)
            for v in [{epoch: value + k / 100 for epoch, value in series.items()}]
        ]
        # Halving remembers what each trial was at its rungs: it must have seen them.
        for trial in known:
            trial.state = TrialState.RUNNING
            should_prune(request, known, trial)
            trial.state = TrialState.COMPLETE
        low = StudyTrial(8, TrialState.RUNNING, {"lr": 1e-3}, series=dict.fromkeys(range(5), -1.0))
        high = StudyTrial(8, TrialState.RUNNING, {"lr": 1e-3}, series=dict.fromkeys(range(5), 5.0))
        assert should_prune(request, [*known, low], low)
        assert not should_prune(request, [*known, high], high)

    def test_what_matters_is_found(self) -> None:
        request = request_of(space={"lr": LR, "hidden_dims": WIDTHS})
        known: list[StudyTrial] = []
        for number in range(40):
            params = suggest(request.model_copy(update={"sampler": "random"}), known)
            assert params is not None
            known.append(StudyTrial(number, TrialState.COMPLETE, params, params["lr"]))
        shares = importance(request, known)
        assert shares["lr"] > shares["hidden_dims"]
        assert sum(shares.values()) == pytest.approx(1)
        assert importance(request, known[:3]) == {}


@pytest.mark.slow
def test_the_scores_are_those_of_an_evaluation() -> None:
    from nbody.evaluation.score import evaluate
    from nbody.stepper import Stepper
    from nbody.training.run import TrainingRun

    run = TrainingRun.start(Config(hidden_dims=[4], device="cpu", seed=1))
    scores = evaluate(Stepper(run.model, run.adapter), systems=2)
    for objective in SCORES:
        kind, name = objective.split(".")
        assert isinstance(scores[kind][name], float)
