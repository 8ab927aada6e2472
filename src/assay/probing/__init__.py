"""Honest probing: what a dictionary's latents are worth for telling labels apart, beside probes that were really tuned.

    tasks -> harvest (once a task) -> arms (fitted inside folds) -> protocol (choice on validation) -> units, verdicts, pages

data, wheel, tables, presets   where labelled texts come from, and what was removed from them
splits                         who is trained on and who is judged, by seeded hash of the text
harvest, features              a task's vectors and sparse codes, cached
arms/                          one file an arm
protocol, pool, honesty        choosing inside the fold; the quiver of arrows; permuted labels
"""
