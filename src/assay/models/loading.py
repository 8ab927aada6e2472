"""Opening a model: by hub name, from a local folder, or one that ships with assay.

No code that comes with a model is run, no pickle is opened, and a missing network is said in one sentence.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import errors as hub
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from assay.core import shipped
from assay.core.artefact import read_json
from assay.core.errors import AssayError, BadInput, BadOption, Corrupt, NotFound, Unreachable, nearest
from assay.models.model import Model
from assay.models.sites import FAMILIES

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")

#: What is fetched from the hub; repositories often hold the same weights several times over.
WANTED = ("*.json", "model*.safetensors", "tokenizer.model", "*.jinja", "merges.txt", "vocab.txt")
UNWANTED = ("*/*", "model.fp16*", "model.fp32*")


def load(name_or_path: str | Path, *, device: str = "cpu", dtype: str = "float32", offline: bool = False) -> Model:
    """Open a causal language model or an encoder, with its tokenizer, frozen and in evaluation mode.

    `name_or_path`: `storyworld` (ships with assay), a folder, or a name on the Hugging Face Hub, which is fetched
    once and then found in the cache. `offline=True`, or HF_HUB_OFFLINE=1, looks in the cache alone. Raises `NotFound`
    for an unknown name or folder, `Unreachable` without a network, `Corrupt` for a torn file, `BadInput` for a model
    that cannot be used: one with code of its own, with pickled weights, or with an encoder and a decoder.
    """
    place, torch_dtype = _device(device), _dtype(dtype)
    name = str(name_or_path)
    folder = _folder(name, offline)
    with _quiet():
        config = _config(name, folder)
        hf = _network(name, folder, config, torch_dtype)
        tokenizer = _tokenizer(name, folder)
    local = name not in shipped.names() and Path(name).expanduser().is_dir()
    whole = str(folder.resolve()) if local else name
    return Model(hf.to(place), tokenizer, name=folder.resolve().name if local else name, source=whole)


def _dtype(dtype: str) -> torch.dtype:
    if dtype not in DTYPES:
        raise BadOption(f'--dtype is "{dtype}".{nearest(dtype, DTYPES)}')
    return DTYPES[dtype]


def _device(device: str) -> torch.device:
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise BadOption(f'--device is "{device}", which cannot be used here ({reason}); "cpu" always works.') from None
    return place


def _folder(name: str, offline: bool) -> Path:
    """The local folder that holds the model; fetched first where `name` is a hub name."""
    if name in shipped.names():
        return shipped.path(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        raise NotFound(f"{name} is a file; give the folder that holds config.json and model.safetensors.")
    if name.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise NotFound(
            f"The model folder {name} does not exist; give a local folder, a hub name such as gpt2, or storyworld."
        )
    return _fetched(name, offline)


def _fetched(name: str, offline: bool) -> Path:
    offline = offline or hub_is_off()
    away = (
        f'The model "{name}" is neither a local folder nor in the cache, and the Hugging Face Hub '
        f"{'is not asked (offline)' if offline else 'does not answer'}; go online once, or give a local folder."
    )
    try:
        found = snapshot_download(
            name, allow_patterns=list(WANTED), ignore_patterns=list(UNWANTED), local_files_only=offline
        )
    except hub.GatedRepoError:
        raise Unreachable(
            f'The model "{name}" asks you to accept its licence: do so at https://huggingface.co/{name}, then run '
            f"`hf auth login`."
        ) from None
    except (hub.RepositoryNotFoundError, hub.HFValidationError):
        raise NotFound(
            f'There is no model "{name}" on the Hugging Face Hub that you may read, and no local folder of that name; '
            f"for a private one, run `hf auth login`."
        ) from None
    except OSError as error:
        if error.errno is not None and not isinstance(error, hub.LocalEntryNotFoundError | ConnectionError):
            raise
        raise Unreachable(away) from None
    except Exception as error:
        if type(error).__module__.split(".")[0] in ("httpx", "httpcore", "requests", "urllib3", "huggingface_hub"):
            raise Unreachable(away) from None
        raise
    folder = Path(found)
    if offline and not (folder / "config.json").exists():
        raise Unreachable(away)
    return folder


def hub_is_off() -> bool:
    """Whether the environment forbids asking the hub."""
    return any(
        os.environ.get(v, "").upper() in ("1", "TRUE", "YES", "ON") for v in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def _config(name: str, folder: Path) -> Any:
    raw = read_json(folder / "config.json") if (folder / "config.json").exists() else None
    if not isinstance(raw, dict):
        raise NotFound(f"{folder} holds no config.json, so it is not a Hugging Face model folder.")
    if (folder / "adapter_config.json").exists():
        raise BadInput(
            f"{name} holds an adapter, not a whole model; merge it into its base model, save that, and load it."
        )
    if raw.get("model_type") not in transformers.CONFIG_MAPPING:
        own = " and brings code of its own, which is never run" if "auto_map" in raw else ""
        raise BadInput(f"{name} is a model of type {raw.get('model_type')!r}, which transformers does not know{own}.")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # any field may be wrong in any way
        raise Corrupt(f"{folder / 'config.json'} is not a usable config ({_line(error)}).") from None
    if config.is_encoder_decoder:
        raise BadInput(f"{name} has an encoder and a decoder; assay reads causal language models and encoders.")
    return config


def _network(name: str, folder: Path, config: Any, dtype: torch.dtype) -> Any:
    if not any((folder / file).exists() for file in WEIGHTS):
        raise BadInput(
            f"{name} holds no model.safetensors; pickled weights (.bin, .pt) are never opened, as they can run code. "
            f"Save the model once with save_pretrained, which writes safetensors."
        )
    family = FAMILIES.get(config.model_type)
    options: dict[str, Any] = {"add_pooling_layer": False} if family is not None and not family.causal else {}
    kind = transformers.AutoModelForCausalLM if _is_causal(config) else transformers.AutoModel
    try:
        loaded: Any = kind.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    except Exception as error:
        if isinstance(error, SafetensorError | json.JSONDecodeError | OSError | RuntimeError | KeyError | ValueError):
            raise Corrupt(
                f"The weights in {folder} cannot be read ({_line(error)}); fetch or copy them again."
            ) from None
        raise
    hf, report = loaded
    lost = sorted(report["missing_keys"]) + sorted(str(k) for k in report.get("mismatched_keys", ()))
    if lost:
        raise Corrupt(
            f"The weights in {folder} lack {len(lost)} tensors of the model that config.json names, {lost[0]} first."
        )
    return hf


def _is_causal(config: Any) -> bool:
    """Encoders are in transformers' causal mapping too, as decoders; the table and `architectures` know better."""
    family = FAMILIES.get(config.model_type)
    if family is not None:
        return family.causal
    names = [str(a) for a in getattr(config, "architectures", None) or ()]
    says_so = any(a.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for a in names)
    return config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and says_so


def _tokenizer(name: str, folder: Path) -> Any:
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the classes that a folder may name fail in many ways; its tokenizer.json is enough
        file = folder / "tokenizer.json"
        if not file.exists():
            raise BadInput(
                f"{name} has no tokenizer that can be opened ({_line(error)}); a tokenizer.json is needed."
            ) from None
    try:
        return transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), **_special_tokens(folder))
    except AssayError:
        raise
    except Exception as error:
        raise Corrupt(f"{file} is not a usable tokenizer ({_line(error)}).") from None


def _special_tokens(folder: Path) -> dict[str, str]:
    """`bos_token` and the like, as the folder's tokenizer settings name them."""
    found: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        given = read_json(folder / file) if (folder / file).exists() else {}
        for key, value in given.items():
            text = value.get("content") if isinstance(value, dict) else value
            if re.fullmatch(r"(bos|eos|pad|unk|cls|sep|mask)_token", key) and isinstance(text, str):
                found[key] = text
    return found


def _line(error: BaseException) -> str:
    """The first line of a foreign error, short, without its full stop."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(".")


@contextmanager
def _quiet() -> Generator[None]:
    """No bars and no reports of transformers while loading: what matters is said by our own errors."""
    settings = transformers.utils.logging
    level, bar = settings.get_verbosity(), settings.is_progress_bar_enabled()
    settings.set_verbosity_error()
    settings.disable_progress_bar()
    try:
        yield
    finally:
        settings.set_verbosity(level)
        if bar:
            settings.enable_progress_bar()
