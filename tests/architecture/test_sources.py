"""Habits that a file can be checked for: names, forbidden calls, help texts,
and options that can be found by one word."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "assay"
FILES = sorted(SOURCE.rglob("*.py"))
VAGUE = {"utils", "util", "helpers", "helper", "misc", "common", "stuff"}


def test_no_vague_file_names() -> None:
    assert not [p for p in [*FILES, *SOURCE.rglob("*/")] if p.stem.strip("_") in VAGUE]


def forbidden_calls(text: str) -> list[str]:
    """Calls of pickle, torch.load without weights_only=True, eval and exec;
    method calls such as model.eval() are fine."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
            found += [
                f"{node.lineno}: {n}"
                for n in names
                if n.split(".")[0] in ("pickle", "cPickle", "dill", "joblib", "cloudpickle")
            ]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
            allow_pickle = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords)
            if called in ("eval", "exec") or allow_pickle or (called in ("torch.load", "torch.save") and not safe):
                found.append(f"{node.lineno}: {called}")
    return found


def test_nothing_is_pickled_or_evaluated() -> None:
    wrong = {str(p.relative_to(ROOT)): calls for p in FILES if (calls := forbidden_calls(p.read_text()))}
    assert not wrong, wrong


def test_the_check_sees_what_it_should() -> None:
    for bad in (
        "import pickle",
        "from joblib import dump",
        "eval('1')",
        "torch.load(p)",
        "np.load(p, allow_pickle=True)",
    ):
        assert forbidden_calls(bad), bad
    for good in ("model.eval()", "torch.load(p, weights_only=True)", "x.evaluate()"):
        assert not forbidden_calls(good), good


def test_no_machine_paths() -> None:
    machine = re.compile(r"""["'(\s=](/(?:home|root|Users|work|mnt|tmp|scratch)/|[A-Z]:\\\\)""")
    wrong = [
        f"{p.relative_to(ROOT)}:{n}: {line.strip()}"
        for p in FILES
        for n, line in enumerate(p.read_text().splitlines(), 1)
        if machine.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def options_of(path: Path) -> list[tuple[str, str, int, bool]]:
    """(class, option, line, has a sentence under it) of every class named ...Config in a file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ClassDef) or not node.name.endswith("Config"):
            continue
        for field, after in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                text = (
                    after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
                )
                told = isinstance(text, str) and len(text.split()) >= 3
                found.append((node.name, field.target.id, field.lineno, told))
    return found


def test_every_option_has_a_sentence_of_help() -> None:
    options = {p: options_of(p) for p in FILES}
    names = {(p.stem, name) for p, found in options.items() for _, name, _, _ in found}
    assert {("options", "d_sae"), ("gated", "l1_coef"), ("topk", "k"), ("options", "lr")} <= names, "the search works"
    mute = [
        f"{p.relative_to(ROOT)}:{line} {c}.{name}"
        for p, found in options.items()
        for c, name, line, told in found
        if not told
    ]
    assert not mute, "\n".join(mute)


def test_every_config_has_a_docstring_and_every_file_too() -> None:
    wrong = [
        str(p.relative_to(ROOT))
        for p in FILES
        if p.read_text().strip() and not ast.get_docstring(ast.parse(p.read_text()))
    ]
    assert not wrong, wrong


def places(option: str, path: Path) -> set[str]:
    """Where one word is found in an architecture's file: its field, its check, its use."""
    found = set()
    for line in path.read_text().splitlines():
        if re.match(rf"\s+{option}\s*:", line):
            found.add("field")
        elif "require(" in line and option in line:
            found.add("check")
        elif f"config.{option}" in line:
            found.add("use")
    return found


def test_one_word_finds_field_check_use_and_test() -> None:
    for option, arch in (("l1_coef", "gated"), ("l1_coef", "relu"), ("k", "topk"), ("k", "raw")):
        assert places(option, SOURCE / "dictionaries" / f"{arch}.py") == {"field", "check", "use"}, (arch, option)
    tests = [p for p in (ROOT / "tests").rglob("test_*.py") if re.search(r"\bl1_coef\b", p.read_text())]
    assert len(tests) > 1
