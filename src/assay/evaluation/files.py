"""The files that an evaluation leaves in its result folder; pages are made from these alone.

units.parquet outcomes.parquet costs.parquet verdicts.parquet      core.outcome

examples.parquet    top activating contexts on the test split, rank 0 first
    subject arm: str  latent: i32  frequency: f64  rank: i32  document: str
    position: i32 (of the peak in its document)  peak: i32 (index of the peak in `tokens`)
    tokens: list[str]  values: list[f32] (codes of this latent at these tokens)

histogram.parquet   every latent of every dictionary
    subject arm: str  latent: i32  frequency: f64 (share of the test split's tokens on which f != 0)

run.json            what was run: `RUN_KEYS`
"""

from __future__ import annotations

import pyarrow as pa

EXAMPLES = "examples.parquet"
HISTOGRAM = "histogram.parquet"
RUN = "run.json"

EXAMPLES_SCHEMA = pa.schema(
    [
        ("subject", pa.string()),
        ("arm", pa.string()),
        ("latent", pa.int32()),
        ("frequency", pa.float64()),
        ("rank", pa.int32()),
        ("document", pa.string()),
        ("position", pa.int32()),
        ("peak", pa.int32()),
        ("tokens", pa.list_(pa.string())),
        ("values", pa.list_(pa.float32())),
    ]
)
HISTOGRAM_SCHEMA = pa.schema(
    [("subject", pa.string()), ("arm", pa.string()), ("latent", pa.int32()), ("frequency", pa.float64())]
)

RUN_KEYS = {
    "study": "name of the study",
    "task": "model and site, as in the tables",
    "model": "name of the model or null",
    "model_hash": "hash of its weights or null",
    "site": "canonical site",
    "text": "name of the text, or null",
    "context": "tokens at which documents are cut, or null",
    "seed": "seed of resampling",
    "splits": "{split: {documents, tokens, how}}: documents, kept tokens, and the rule that split them",
    "masks": "in words: what was spliced, what was counted",
    "means": "in words: over what the mean of FVU and of the mean ablation were taken",
    "splice_check": "{documents, max_abs_loss_change_nats, tolerance_nats, passed} or null",
    "losses_nats": "{split: {clean, zero, mean}} mean loss per counted token, or null",
    "no_language": "why the loss metrics are null, or null",
    "dictionaries": "list of {subject, arm, role, arch, seed, point, d_in, d_sae, options, trained_on_known, cost_id, "
    "path (name of its folder or null)}",
    "alarms": "list of sentences that a reader must see",
    "notes": "list of sentences on how things were measured",
    "provenance": "core.provenance.collect()",
}
