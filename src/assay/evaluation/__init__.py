"""Dictionaries measured beside their baselines: one reading of the documents, sums per document, verdicts, examples."""

from assay.evaluation.entry import Entry
from assay.evaluation.evaluate import evaluate
from assay.evaluation.evaluation import Evaluation
from assay.evaluation.examples import Showing

__all__ = ["Entry", "Evaluation", "Showing", "evaluate"]
