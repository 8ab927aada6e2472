"""Logistic regression on the last token of a text."""

from assay.probing.arms.pooled import missing_where, run_on

ABOUT = "logistic regression on the last token"
ROLE, ACCESS, SLOW = "baseline", "activations", False
missing, run = missing_where("last"), run_on("last")
