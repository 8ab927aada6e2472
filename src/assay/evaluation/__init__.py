"""Dictionaries measured beside their baselines: one reading of the documents, sums per document, verdicts, examples."""

from assay.evaluation.entry import Entry
from assay.evaluation.evaluate import evaluate
from assay.evaluation.evaluation import Evaluation
from assay.evaluation.examples import Showing
from assay.evaluation.recovery import Trial, evaluate_recovery

__all__ = ["Entry", "Evaluation", "Showing", "Trial", "evaluate", "evaluate_recovery"]
