"""Logistic regression on the coordinates' mean over the tokens of a text."""

from assay.probing.arms.pooled import missing_where, run_on

ABOUT = "logistic regression on the mean over tokens"
ROLE, ACCESS, SLOW = "baseline", "activations", False
missing, run = missing_where("mean"), run_on("mean")
