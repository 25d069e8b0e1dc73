"""The files in which a job leaves a close look at its scores."""

HELD_OUT_FILE = "held_out.json"
PICTURE_FILE = "evaluation.png"
