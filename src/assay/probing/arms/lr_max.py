"""Logistic regression on the coordinates' largest value over the tokens of a text."""

from assay.probing.arms.pooled import missing_where, run_on

ABOUT = "logistic regression on the maximum over tokens"
ROLE, ACCESS, SLOW = "baseline", "activations", False
missing, run = missing_where("max"), run_on("max")
