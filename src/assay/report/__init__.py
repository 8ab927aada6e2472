"""Pages and tables made from saved results: `build` writes report.html, `verdict_table` prints the verdicts."""

from assay.report.page import build
from assay.report.terminal import verdict_table

__all__ = ["build", "verdict_table"]
