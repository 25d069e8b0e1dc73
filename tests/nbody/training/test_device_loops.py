"""The loops that stay on the device: the same training, and never a question to the device."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nbody.config import Config
from nbody.errors import StepImpossible, TrainingDiverged
from nbody.model_adapter import gate_dt
from nbody.training.collection_on_device import DeviceCollection
from nbody.training.descent import descend
from nbody.training.generalization_on_device import DeviceLearner
from nbody.training.loops import Loops
from nbody.training.masked_descent import MaskedDescent, can_be_masked
from nbody.training.run import TrainingRun, build_optimizer
from nbody.training.samples import Samples
from nbody.training.setup import TrainingSetup
from nbody.training.verdict import Verdict, is_done
from nbody.unified_training import epochs

CASES: dict[str, dict[str, Any]] = {
    "oracle": {},
    "band": {"loss": "band"},
    "band_failing": {"loss": "band_failing", "replay_steps": 10},
    "dimensionless": {"feature_type": "dimensionless"},
    "normalized": {"feature_type": "rich", "dt_head": "softplus", "normalize_inputs": True},
    "history": {"feature_type": "dimensionless", "history_len": 2},
    "delta_mag": {"feature_type": "delta_mag", "history_len": 2, "dt_head": "softplus"},
    "capped": {"max_retrain_steps": 2, "energy_threshold": 1e-7},
    "one period": {"stop_at_period": True, "steps_per_epoch": 60},
    "several steps at once": {"n_steps": 2},
    "a field": {"external_field_mass": 0.1, "external_field_position": [5.0, 0.0]},
    "moves on": {"reset_particle_each_epoch": False},
    "lifetimes": {"reset_particle_each_epoch": False, "lifetime": 2.0},
    "adamw": {"optimizer": "adamw"},
    "three bodies": {"initial_conditions": "figure_eight"},
    "fourth order": {"integrator": "leapfrog4"},
    "hermite": {"integrator": "hermite4", "loss": "band"},
}

aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense.default,  # item(), bool(), float()
    aten.nonzero.default,
    aten.masked_select.default,
    aten.is_nonzero.default,
    aten.equal.default,
    aten._unique2.default,
    aten.repeat_interleave.Tensor,
    aten.lift_fresh.default,  # torch.tensor(numbers): a copy from the host
}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}


class HostWaits(AssertionError):
    """The host would have waited here."""


class NoSynchronisation(TorchDispatchMode):
    """Raises HostWaits at the first operation whose result the host would have to wait for."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        waits = func in WAITING
        if func in INDEXING:
            waits = any(i is not None and i.dtype in {torch.bool, torch.uint8} for i in args[1])
        if waits:
            raise HostWaits(str(func))
        return func(*args, **(kwargs or {}))


def config_of(**fields: Any) -> Config:
    return Config(
        **{
            "num_orbits": 1,
            "steps_per_epoch": 5,
            "epochs": 4,
            "replay_steps": 12,
            "replay_batch_size": 3,
            "hidden_dims": [8],
            "dropout": 0.0,
            "lr": 2.0**-5,  # the same number in float32
            "lr_schedule": "constant",
            "device": "cpu",
            "seed": 5,
            **fields,
        }
    )


def run_of(on_device: bool, **fields: Any) -> TrainingRun:
    run = TrainingRun.start(config_of(**fields))
    run.loops = Loops(on_device=on_device)
    with torch.no_grad():  # a bold beginner: its steps fail, and are trained on
        last = [weight for weight in run.model.parameters() if weight.dim() == 1][-1]
        last.add_(4.0 if run.config.dt_head == "log" else 0.0)
    return run


def training_of(run: TrainingRun) -> TrainingSetup:
    return TrainingSetup(run.model, run.optimizer, run.config, run.adapter, run.history_buffer)


def rows(run: TrainingRun) -> Iterator[dict[str, Any]]:
    for metrics in epochs(run):
        yield metrics.model_dump(exclude={"epoch_time"})


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_one_orbit_is_trained_on_as_it_is_without_masks(case: str) -> None:
    plain, masked = (list(rows(run_of(on_device, **CASES[case]))) for on_device in (False, True))
    for expected, found in zip(plain, masked, strict=True):
        # Part 2 of this loss looks at the gate every tenth time only.
        skipped = {"iterations"} if case == "band_failing" else set()
        assert found.keys() == expected.keys()
        for name in expected.keys() - skipped:
            if expected[name] is None:
                assert found[name] is None, name
            else:
                assert found[name] == pytest.approx(expected[name], rel=1e-6), name


@pytest.mark.slow
def test_training_is_long_enough_to_tell_the_loops_apart() -> None:
    found = list(rows(run_of(True)))
    assert sum(row["max_retrain_iterations"] for row in found) > 3
    assert {row["iterations"] for row in found} != {0}


@pytest.mark.parametrize("loss", ["oracle", "band", "band_failing"])
def test_of_many_orbits_every_sample_that_is_recorded_passed_the_gate(loss: str) -> None:
    run = run_of(True, num_orbits=32, loss=loss, steps_per_epoch=7)
    config, particle = run.config, run.begin_epoch()
    collection = run.loops.collection(training_of(run), particle, config.steps_per_epoch)
    collection.run(watcher=Ticks())
    record = collection.record
    trajectory = record.trajectory(collection.states, warmup=0)
    assert len(trajectory) == 32 * 7
    step = trajectory.states.step(trajectory.dt)
    assert (step.energy_error < config.energy_threshold).all()
    # Each sample is where the step before it ended.
    for name in ("position", "velocity"):
        series = getattr(trajectory.states, name).unflatten(0, (7, 32))
        ends = getattr(step, name).unflatten(0, (7, 32))
        torch.testing.assert_close(series[1:], ends[:-1])
    features = run.adapter.features_of(trajectory.states, trajectory.last_dt)
    torch.testing.assert_close(features, trajectory.features)
    assert collection.optimizer_steps > 0
    assert record.rejections.sum() >= collection.optimizer_steps


def test_the_loops_are_made_once_for_a_run() -> None:
    run = run_of(True, num_orbits=3, resample_each_epoch=True)
    made: set[tuple[int, int]] = set()
    kept: list[object] = []
    for _ in epochs(run):
        loops = run.loops._collection, run.loops._learner
        kept.extend(loops)
        made.add((id(loops[0]), id(loops[1])))
    assert len(made) == 1
    assert isinstance(kept[0], DeviceCollection)
    assert isinstance(kept[1], DeviceLearner)


def test_an_epoch_takes_no_more_attempts_than_it_has_steps() -> None:
    run = run_of(True, num_orbits=4, steps_per_epoch=21)
    with torch.no_grad():  # an untrained network is on the safe side: every step passes
        [weight for weight in run.model.parameters() if weight.dim() == 1][-1].sub_(4.0)
    collection = collection_of(run)
    counts = {"attempt": 0, "advance": 0}

    def counting(name: str, call: Callable[[], None]) -> Callable[[], None]:
        def counted() -> None:
            counts[name] += 1
            call()

        return counted

    for name in counts:
        setattr(collection, name, counting(name, getattr(collection, name)))
    collection.run(Ticks())
    assert not collection.record.rejections.any()
    assert counts == {"attempt": 21, "advance": 21}


def test_nobody_is_moved_on_where_nobody_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    collection = collection_of(run_of(True, num_orbits=4, loss="band"))
    collection.threshold.zero_()  # no error is under it
    moved: list[int] = []
    monkeypatch.setattr(collection, "advance", lambda: moved.append(int(collection.passed.sum())))
    with pytest.raises(StepImpossible):
        collection.run(Ticks(), max_retrain_warn=5)
    assert len(moved) <= 1  # between two attempts, of whose outcome nobody was asked


@pytest.mark.parametrize("loss", ["oracle", "band", "band_failing"])
def test_a_smaller_minibatch_has_room_in_the_loops_that_are_there(loss: str) -> None:
    """Filled up with its own samples, each of which counts once."""
    verdicts: list[bool] = []
    weights: list[list[torch.Tensor]] = []
    for room in (3, 8):
        run = run_of(True, num_orbits=1, loss=loss, E_lower=1e-30)
        collection = collection_of(run)
        collection.run(Ticks())
        trajectory = collection.record.trajectory(collection.states, warmup=0)
        samples = Samples.of(trajectory.states, trajectory.features, run.config)
        learner = DeviceLearner(training_of(run), samples, room)
        learner.begin()
        for rows in ([0, 1, 2], [4, 0, 3]):
            learner.load(samples, torch.tensor(rows))
            learner.learn()
            learner.learn()
            verdicts.append(learner.done())
        weights.append([weight.detach() for weight in run.model.parameters()])
    assert verdicts[:2] == verdicts[2:]
    for expected, found in zip(*weights, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_repeated_samples_do_not_change_what_is_done() -> None:
    run = run_of(True, num_orbits=6)
    states = run.initial.states()
    features = run.adapter.features_of(states, torch.zeros(()))
    samples = Samples.of(states, features, run.config)
    assert samples.dt_star is not None
    dt = samples.dt_star * torch.tensor([0.5, 0.9, 0.9, 0.9, 0.9, 0.9])
    passed = torch.ones(6, dtype=torch.bool)
    verdict = Verdict(dt, torch.zeros_like(dt), passed)
    once = torch.tensor([True, True, False, False, False, False])  # mean efficiency 0.7
    for least, done in ((0.69, True), (0.71, False)):
        config = run.config.model_copy(update={"min_efficiency": least})
        assert bool(is_done(samples, verdict, config, once)) is done


@pytest.mark.slow
def test_loops_are_kept_where_epochs_have_other_numbers_of_samples() -> None:
    run = run_of(
        True,
        num_orbits=2,
        steps_per_epoch=60,
        stop_at_period=True,
        resample_each_epoch=True,
        e_min=0.1,
        e_max=0.9,
        replay_batch_size=4096,
        epochs=4,
    )
    lengths: set[int] = set()
    learners: set[int] = set()
    for metrics in epochs(run):
        lengths.add(metrics.trajectory_length)
        learners.add(id(run.loops._learner))
    assert len(lengths) > 1
    assert len(learners) == 1


def test_a_caller_with_another_batch_gets_loops_of_its_own() -> None:
    run = run_of(True, num_orbits=3)
    first = collection_of(run)
    wider = TrainingRun.start(config_of(num_orbits=4))
    again = run.loops.collection(training_of(run), wider.initial, 5)
    assert again is not first
    assert len(again.states) == 4


class Ticks:
    def phase(self, phase: str) -> None: ...

    def tick(self) -> None: ...


def collection_of(run: TrainingRun) -> DeviceCollection:
    found = run.loops.collection(training_of(run), run.begin_epoch(), run.config.steps_per_epoch)
    assert isinstance(found, DeviceCollection)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_no_iteration_makes_the_host_wait(case: str) -> None:
    run = run_of(True, **CASES[case])
    collection = collection_of(run)
    collection.descent.begin()
    collection.attempt()  # the first calls make what is made once
    collection.advance()
    with NoSynchronisation():
        collection.attempt()
        collection.advance()
    collection.run(Ticks())
    trajectory = collection.record.trajectory(collection.states, warmup=0)
    samples = Samples.of(trajectory.states, trajectory.features, run.config)
    learner = run.loops.learner(training_of(run), samples, 3)
    assert isinstance(learner, DeviceLearner)
    learner.learn()
    learner.done()
    with NoSynchronisation():
        learner.load(samples, torch.arange(3))
        learner._judging()
        learner.learn()


def test_the_watch_sees_the_loop_that_does_wait() -> None:
    run = run_of(False)
    collection = run.loops.collection(training_of(run), run.begin_epoch(), 3)
    with pytest.raises(HostWaits), NoSynchronisation():
        collection.run(Ticks())


def test_a_state_that_no_step_passes_ends_the_run() -> None:
    collection = collection_of(run_of(True, loss="band"))
    collection.threshold.zero_()  # no error is under it
    with pytest.raises(StepImpossible):
        collection.run(Ticks(), max_retrain_warn=5)


@pytest.mark.slow
def test_a_state_that_is_rejected_again_and_again_is_told() -> None:
    run = run_of(True, energy_threshold=1e-9, E_lower=1e-12, E_upper=1e-10, lr=2.0**-12)
    with pytest.warns(UserWarning, match="rejected more than 5 times"):
        collection_of(run).run(Ticks(), max_retrain_warn=5)


class TestDescent:
    def parts(self) -> tuple[TrainingRun, torch.Tensor]:
        run = TrainingRun.start(config_of(num_orbits=6))
        return run, run.adapter.features_of(run.initial.states(), torch.zeros(()))

    def test_a_step_under_a_mask_is_a_step_on_what_it_picks(self) -> None:
        found: list[list[torch.Tensor]] = []
        for masked in (False, True):
            run, features = self.parts()
            mask = torch.tensor([True, False, True, True, False, False])
            descent = MaskedDescent(run.optimizer)
            descent.begin()
            for _ in range(5):
                losses = run.model(features)[:, 0].square()
                if masked:
                    descent(losses, mask)
                else:
                    descend(losses[mask].mean(), run.optimizer)
            found.append([weight.detach() for weight in run.model.parameters()])
            if masked:
                assert int(descent.taken) == 5
        for expected, weight in zip(*found, strict=True):
            torch.testing.assert_close(weight, expected)

    def test_an_empty_mask_leaves_weights_moments_and_the_count_of_steps(self) -> None:
        run, features = self.parts()
        descent = MaskedDescent(run.optimizer)
        descent.begin()
        everyone = torch.ones(6, dtype=torch.bool)
        descent(run.model(features)[:, 0], everyone)
        before = [t.clone() for t in self.tensors(run)]
        descent(run.model(features)[:, 0], ~everyone)
        for old, new in zip(before, self.tensors(run), strict=True):
            assert torch.equal(old, new)
        assert int(descent.taken) == 1
        assert run.optimizer.param_groups[0]["lr"] == run.config.lr

    def test_from_a_loss_that_is_not_finite_on_no_step_is_taken(self) -> None:
        run, features = self.parts()
        descent = MaskedDescent(run.optimizer)
        descent.begin()
        everyone = torch.ones(6, dtype=torch.bool)
        before = [t.clone() for t in self.tensors(run)]
        descent(run.model(features)[:, 0] * torch.inf, everyone)
        descent(run.model(features)[:, 0], everyone)
        for old, new in zip(before, run.model.parameters(), strict=False):
            assert torch.equal(old, new)
        with pytest.raises(TrainingDiverged):
            descent.check()

    def test_a_capture_would_be_let_through(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Torch refuses to capture the step of an optimizer that is not `capturable`."""
        run, features = self.parts()
        seen: list[bool] = []

        def check(optimizer: torch.optim.Optimizer) -> None:
            seen.extend(group["capturable"] for group in optimizer.param_groups)

        monkeypatch.setattr(
            torch.optim.Optimizer, "_accelerator_graph_capture_health_check", check, raising=True
        )
        descent = MaskedDescent(run.optimizer)
        descent.begin()
        descent(run.model(features)[:, 0], torch.ones(6, dtype=torch.bool))
        assert seen == [True]
        assert run.optimizer.param_groups[0]["capturable"] is False

    def test_the_learning_rate_is_the_epochs_own(self) -> None:
        run, features = self.parts()
        descent = MaskedDescent(run.optimizer)
        run.optimizer.param_groups[0]["lr"] = 0.0
        descent.begin()
        before = [weight.detach().clone() for weight in run.model.parameters()]
        descent(run.model(features)[:, 0], torch.ones(6, dtype=torch.bool))
        for old, new in zip(before, run.model.parameters(), strict=True):
            assert torch.equal(old, new)

    def tensors(self, run: TrainingRun) -> Iterator[torch.Tensor]:
        yield from run.model.parameters()
        for state in run.optimizer.state.values():
            yield from state.values()


def test_only_fused_adam_can_leave_a_step_out() -> None:
    run = TrainingRun.start(config_of())
    assert can_be_masked(run.optimizer)
    assert can_be_masked(build_optimizer(config_of(optimizer="adamw"), run.model))
    assert not can_be_masked(build_optimizer(config_of(optimizer="sgd"), run.model))
    assert not can_be_masked(torch.optim.Adam(run.model.parameters()))


def test_a_run_with_another_optimizer_takes_the_other_loop() -> None:
    run = run_of(True, optimizer="sgd", lr=1e-3)
    assert len(list(rows(run))) == 4
    assert run.loops._collection is None


@pytest.mark.slow
def test_training_under_masks_makes_as_good_a_stepper() -> None:
    steps: list[torch.Tensor] = []
    for on_device in (False, True):
        run = run_of(
            on_device, num_orbits=16, epochs=12, steps_per_epoch=4, resample_each_epoch=True
        )
        last = list(rows(run))[-1]
        features = run.adapter.features_of(run.initial.states(), torch.zeros(()))
        steps.append(gate_dt(run.model, features))
        assert last["final_pass_rate"] > 0.7
    assert 0.5 < float((steps[1] / steps[0]).log().mean().exp()) < 2
