"""Text to token blocks to activation rows: harvested to disk or read live, in one order, with each row's origin.

    documents -> pack -> harvest -> Store \\
                    \\-> LiveSource --------> Stream.batch(step)        (training: kept rows only)
    documents -> sequences(...) -> whole padded documents with `keep`  (evaluation)
"""

from assay.activations.harvest import harvest
from assay.activations.joined import Joined
from assay.activations.live import LiveSource
from assay.activations.order import DEFAULT_SHUFFLE_ROWS, Order
from assay.activations.sequences import RowBatch, SequenceBatch, evaluation_batches, evaluation_rows
from assay.activations.sites import each, together
from assay.activations.source import Origin, Source, TensorSource
from assay.activations.store import Store
from assay.activations.stream import Stream
from assay.activations.table import Blocks, Table
from assay.activations.text import Document, Documents, document_id, documents, half_of, of_split, split_of
from assay.activations.tokens import Frame, pack, unpacked

__all__ = [
    "DEFAULT_SHUFFLE_ROWS",
    "Blocks",
    "Document",
    "Documents",
    "Frame",
    "Joined",
    "LiveSource",
    "Order",
    "Origin",
    "RowBatch",
    "SequenceBatch",
    "Source",
    "Store",
    "Stream",
    "Table",
    "TensorSource",
    "document_id",
    "documents",
    "each",
    "evaluation_batches",
    "evaluation_rows",
    "half_of",
    "harvest",
    "of_split",
    "pack",
    "split_of",
    "together",
    "unpacked",
]
