"""How good a trained stepper is, on systems that it was not trained on."""

from nbody.evaluation.score import Score, evaluate

__all__ = ["Score", "evaluate"]
