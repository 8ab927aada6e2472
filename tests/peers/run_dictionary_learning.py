"""Train with the real trainers of dictionary_learning, as its own loop does: `trainer.update(step, batch)`. Runs in `.venv-peers`.

    python run_dictionary_learning.py JOBS.json

JOBS.json: {"threads": n, "rows": FILE, "jobs": [{"trainer", "options", "order", "scale", "out", ...}, ...]}. FILE holds `rows` [n, d] and
`held_out` [m, d]; a job's order file holds `order` int64 [steps, batch], and the rows are divided by `scale`; `steps` may stop it early, `dtype`
is the precision of everything. Each job writes to `out`:
the weights before (`before.*`) and after (`after.*`), the loss of every step, and on the held-out rows the codes (row, latent, value) and
x_hat, from the library's own `encode` and `decode`.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from importlib.metadata import version

import dictionary_learning.trainers as trainers
import torch
from dictionary_learning.trainers.top_k import geometric_median
from safetensors.torch import load_file, save_file
from torch import Tensor


def main(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        asked = json.load(file)
    torch.set_num_threads(asked["threads"])
    data = load_file(asked["rows"])
    dtype = getattr(torch, asked["dtype"])
    seconds = {}
    for job in asked["jobs"]:
        started = time.perf_counter()
        order = load_file(job["order"])["order"][: asked["steps"]]
        save_file(one(job, data["rows"], data["held_out"], order, dtype), job["out"])
        seconds[job["name"]] = round(time.perf_counter() - started, 1)
    print(json.dumps({"versions": {n: version(n) for n in ("dictionary-learning", "torch")}, "seconds": seconds}))


def one(job: dict, rows: Tensor, held_out: Tensor, order: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """Train one dictionary; the tensors that its file holds."""
    trainer = getattr(trainers, job["trainer"])(
        activation_dim=rows.shape[1], dict_size=job["d_sae"], layer=0, lm_name="none", device="cpu", **job["options"]
    )
    trainer.ae.to(dtype)
    for name, value in job["attributes"].items():  # constants that its constructors do not take
        assert hasattr(trainer, name), name
        setattr(trainer, name, value)
    with (
        warnings.catch_warnings()
    ):  # its schedule gives step 0 a rate of 0: one call ahead, step 0 has the first real rate
        warnings.simplefilter("ignore")
        trainer.scheduler.step()
    before = {name: tensor.clone() for name, tensor in trainer.ae.state_dict().items()}
    if job["trainer"] == "TopKTrainer":  # its first update starts b_dec there
        before["b_dec"] = geometric_median(rows[order[0]].to(dtype) / job["scale"])
    losses: list[float] = []
    measured = trainer.loss

    def loss(*args, **kwargs):
        value = measured(*args, **kwargs)
        losses.append(float(value.detach()))
        return value

    trainer.loss = loss
    for step, index in enumerate(order):
        trainer.update(step, rows[index].to(dtype) / job["scale"])
    with torch.no_grad():
        f = trainer.ae.encode(held_out.to(dtype) / job["scale"])
        x_hat = trainer.ae.decode(f)
    row, latent = f.nonzero(as_tuple=True)
    return {
        **{f"before.{name}": tensor.contiguous() for name, tensor in before.items()},
        **{f"after.{name}": tensor.clone().contiguous() for name, tensor in trainer.ae.state_dict().items()},
        "loss": torch.tensor(losses, dtype=torch.float64),
        "row": row,
        "latent": latent,
        "value": f[row, latent],
        "x_hat": x_hat,
    }


if __name__ == "__main__":
    main(sys.argv[1])
