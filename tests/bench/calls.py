"""What one question to an exported stepper costs, in force passes of the same C program:
`python tests/bench/calls.py [--hidden 16,16]`."""

import argparse

from nbody.native.engine import NativeRule, time_calls
from nbody.native.weights import weights_of
from tests.bench.board_systems import plummer
from tests.nbody.native.steppers import small_stepper

BODIES = (2, 16, 64, 256)
KINDS = {"leading_error": "hermite4", "dimensionless": "leapfrog4"}
PAIRS = 2_000_000  # of all calls of a round


def main() -> None:
    """Measure, and print a table; the weights, which were not trained, do not change the cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", default="16,16", help="widths of the hidden layers")
    hidden = [int(width) for width in parser.parse_args().hidden.split(",")]
    print(f"{'features':16} {'N':>4} {'pass [ns]':>10} {'call [ns]':>10} {'call / pass':>12}")
    for kind, integrator in KINDS.items():
        stepper, _ = small_stepper(kind, hidden_dims=hidden)
        rule = NativeRule(1e-7, stepper=weights_of(stepper.model, stepper.config.feature_type))
        for bodies in BODIES:
            system, _ = plummer(bodies, 2, 1.0).systems[0]
            calls = max(200, min(20_000, PAIRS // bodies**2))
            times = time_calls(system, stepper.config.integrator, rule, calls, rounds=9)
            ratio = times.question / times.one_pass
            told = f"{1e9 * times.one_pass:10.0f} {1e9 * times.question:10.0f} {ratio:12.3f}"
            print(f"{kind:16} {bodies:4} {told}")
        assert stepper.config.integrator == integrator


if __name__ == "__main__":
    main()
