"""Worlds whose truth is known: `planted` activations and `storyworld` text, and the script that trains what ships.

from assay.worlds import planted, storyworld
world = planted.World(planted.Config(d=64, n_true=256, l0=8), seed=0);  world.batch(0, 1024) -> (x, f)
storyworld.stories(100, seed=0) -> Story(text, labels), ...
"""

from assay.worlds import planted, storyworld

__all__ = ["planted", "storyworld"]
