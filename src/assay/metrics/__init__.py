"""Metrics of DESIGN §5, one definition each: pure functions of tensors, and sums that do not depend on batches."""

from assay.metrics import fidelity, language, ratio, recovery, shrinkage, sparsity

__all__ = ["fidelity", "language", "ratio", "recovery", "shrinkage", "sparsity"]
