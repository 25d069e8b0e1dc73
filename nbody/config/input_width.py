"""How wide the network's input and output are. Torch-free: sizes are known before a run."""

from nbody.config.sections import FeatureType

WIDTHS = {
    "basic": 11,
    "rich": 23,
    "delta_mag": 10,
    "dimensionless": 12,
    "error_series": 24,
    "leading_error": 15,
}
WITH_THRESHOLD = ("error_series", "leading_error")
WITH_TIME_SCALE = ("dimensionless", *WITH_THRESHOLD)  # whose last column is ln t_ref
OUTPUTS = 2  # the original's second output is unused, and kept for its checkpoints


def input_width(feature_type: FeatureType, history_len: int) -> int:
    """F_total, the width of the network's input with K past states.

    `delta_mag` has one block per pair of consecutive states; the features that end with a time
    scale have that column, ln t_ref, once.
    """
    width = WIDTHS[feature_type]
    if feature_type == "delta_mag":
        return history_len * width
    if feature_type in WITH_TIME_SCALE:
        return (history_len + 1) * (width - 1) + 1
    return (history_len + 1) * width
