"""Signatures of the physics are checked at run time while its tests run."""

from jaxtyping import install_import_hook

CHECKED = (
    "checkpoint evaluation external_field features generalization_training gravity "
    "history_buffer initial_conditions kick_drift_kick losses model model_adapter oracle particle "
    "sample_loss simulation stepper training_run trajectory trajectory_collection unified_training "
    "vectors"
)

install_import_hook([f"nbody.{name}" for name in CHECKED.split()], "beartype.beartype")
