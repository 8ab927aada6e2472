"""What an evaluation gives back and leaves on disk: the four tables of core, examples, histogram, and what was run."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assay.core.artefact import atomic_write, write_json
from assay.core.outcome import Results
from assay.evaluation.files import EXAMPLES, EXAMPLES_SCHEMA, HISTOGRAM, HISTOGRAM_SCHEMA, RUN


@dataclass
class Evaluation(Results):
    """`core.outcome.Results` with `run` (the keys are `files.RUN_KEYS`), `examples` and `histogram` (Arrow tables)."""

    run: dict[str, Any] = field(default_factory=dict[str, Any])
    examples: pa.Table = field(default_factory=EXAMPLES_SCHEMA.empty_table)
    histogram: pa.Table = field(default_factory=HISTOGRAM_SCHEMA.empty_table)

    @property
    def alarms(self) -> list[str]:
        """Sentences that a reader must see."""
        return list(self.run.get("alarms", []))

    def save(self, folder: Path | str) -> None:
        """Write all files of `evaluation.files`, each atomically; raises `BadOption` where results already lie."""
        super().save(folder)
        for name, table in ((EXAMPLES, self.examples), (HISTOGRAM, self.histogram)):
            buffer = io.BytesIO()
            pq.write_table(table, buffer)
            atomic_write(Path(folder) / name, buffer.getvalue())
        write_json(Path(folder) / RUN, self.run)
