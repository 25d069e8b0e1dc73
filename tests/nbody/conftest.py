"""Signatures of the physics are checked at run time while its tests run."""

from jaxtyping import install_import_hook

CHECKED = (
    "blocked_gravity checkpoint collection collection_record criteria device_collection edges "
    "error_crossing error_series evaluation external_field features few_body force_series "
    "gated_step generalization_training gravity history_buffer initial_conditions kepler "
    "kick_drift_kick learner loops losses masked_descent model model_adapter named_systems oracle "
    "particle plummer renewal replay sample_loss simulation states stepper training_run "
    "trajectory trajectory_collection unified_training vectors verdict"
)

install_import_hook([f"nbody.{name}" for name in CHECKED.split()], "beartype.beartype")
