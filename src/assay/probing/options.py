"""What `assay probe` can be told."""

from __future__ import annotations

from typing import Literal

from assay.core.config import config, require
from assay.core.errors import BadOption, nearest
from assay.probing import labels, regimes
from assay.probing.arms import arm, names
from assay.probing.comparators import LINEAR, NEURONS, TOKENWISE
from assay.probing.sparse import K_GRID

COMPARATORS = (NEURONS, *LINEAR, *TOKENWISE)


@config
class ProbeConfig:
    """Options of a probing run."""

    model: str = "storyworld"
    """Model to read: a hub name, a local folder, or storyworld."""
    site: str | None = None
    """Site whose activations are probed; that of the dictionaries when not given."""
    tasks: str = "quick"
    """quick, core, all, shift, multiclass, continuous, storyworld, names or numbers of tasks, or a .jsonl, .csv or .parquet file or a folder."""
    regime: str = "standard"
    """standard, scarcity, imbalance, noise or shift."""
    transform: str | None = None
    """For the regime shift: judge each text in a changed form (capitals, lower, role-play, ignore, count-words, spaced, suffix)."""
    pool: Literal["auto", "mean", "last", "max"] = "auto"
    """How the tokens of a text become one vector; auto: last for a causal model, mean for an encoder."""
    context: int | None = 128
    """Longest text in tokens; the rest is cut and counted."""
    seeds: int = 5
    """Seeds of the split; each is a split of its own by hash of the text."""
    folds: int = 3
    """Folds of the training rows in which everything is chosen."""
    max_rows: int = 2000
    """Texts of a task that are used, drawn by hash; 0 takes all."""
    k: tuple[int, ...] = K_GRID
    """Columns of the sparse probes."""
    arms: tuple[str, ...] = ()
    """Dense and text arms; all when not given, but with more than 30 tasks only those that are fast. lr, lr_mean and lr_max always run."""
    comparators: tuple[str, ...] = COMPARATORS
    """Rivals of the dictionaries that are fitted here on tokens of the tasks' own texts, without labels."""
    permutations: int = 20
    """Fits on permuted labels of each arm, spread over the tasks, for the line that shows that nothing leaks."""
    audit: bool = True
    """In the standard regime tell each task's words and what found them first, and up to 30 tasks also rows that look mislabelled."""
    scan: str | None = None
    """A corpus without labels (.jsonl, .jsonl.gz, .txt, .parquet, storyworld[:n]) to read with lr and the best latent, side by side."""
    scan_top: int = 100
    """First texts of each finder whose overlap is told."""
    text_column: str = "text"
    """The column or key that holds the text of a file."""
    label_column: str = "label"
    """The column or key that holds the label of a file."""
    positive: str | None = None
    """The label of a file that is class 1; the others are class 0."""
    above: str | None = None
    """For a file whose labels are numbers: class 1 is above this number, or above the median with `median`."""
    resamples: int = 10_000
    """Bootstrap resamples of an interval."""
    seed: int = 0
    """First seed of the splits, and the seed of everything else random."""
    device: str = "cpu"
    """Where the model computes."""
    dtype: str = "float32"
    """Number format of the model."""

    def __post_init__(self) -> None:
        for name in ("seeds", "permutations", "resamples"):
            require(getattr(self, name) > 0, name, getattr(self, name), "positive")
        require(self.folds > 1, "folds", self.folds, "2 or more: what is chosen is chosen by what was held out")
        require(self.max_rows == 0 or self.max_rows >= 40, "max_rows", self.max_rows, "40 or more, or 0 for all rows")
        require(len(self.k) > 0 and all(k > 0 for k in self.k), "k", self.k, "one positive number or more")
        if self.regime not in regimes.NAMES:
            raise BadOption(f'--regime is "{self.regime}".{nearest(self.regime, regimes.NAMES)}')
        if self.transform is not None and self.regime != "shift":
            raise BadOption(f"--transform goes with --regime shift, not {self.regime}.")
        require(self.scan_top > 0, "scan_top", self.scan_top, "positive")
        if self.scan is not None and self.regime != "standard":
            raise BadOption(f"--scan goes with --regime standard, not {self.regime}.")
        if self.above is not None:
            labels.require_limit(self.above, self.positive)
        for name in self.arms:
            arm(name)
        for name in self.comparators:
            if name not in COMPARATORS:
                raise BadOption(f'--comparators has "{name}".{nearest(name, COMPARATORS)}')

    def arms_for(self, n_tasks: int) -> list[str]:
        """The arms that run for so many tasks, with those of EVERY_RUN."""
        chosen = list(self.arms) or [name for name in names() if n_tasks <= MANY_TASKS or not arm(name).SLOW]
        return list(dict.fromkeys([*EVERY_RUN, *chosen]))


MANY_TASKS = 30
EVERY_RUN = ("lr", "lr_mean", "lr_max")
"""Run whatever --arms says: everything is held against lr, and sparse arms read all tokens of a text too, by their largest code."""
