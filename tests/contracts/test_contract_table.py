"""The battery covers every file of the folder, and exceptions from it are named and explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from dictionary_examples import CASES, ON_A_SUPPORT, OPTIONS

from assay import dictionaries
from assay.core.errors import NotFound

HERE = Path(__file__).parent


def test_every_architecture_has_examples() -> None:
    missing = sorted(set(dictionaries.names()) - set(OPTIONS))
    assert not missing, (
        f"assay/dictionaries/ has {', '.join(missing)} without example options: add a line to OPTIONS in "
        "tests/contracts/dictionary_examples.py, and the shared battery runs over it."
    )
    gone = sorted(set(OPTIONS) - set(dictionaries.names()))
    assert not gone, f"tests/contracts/dictionary_examples.py still lists {', '.join(gone)}, which assay does not have."


def test_exceptions_name_a_test_and_give_a_reason() -> None:
    tests = {n for f in HERE.glob("test_*.py") for n in re.findall(r"^def (test_\w+)", f.read_text(), re.M)}
    for case in CASES:
        for test, reason in case.plain.exceptions.items():
            assert test in tests, f"{case} excuses itself from {test}, which is no contract test"
            assert len(reason.split()) >= 3, f"{case} gives no reason for its exception from {test}"
    assert tests >= ON_A_SUPPORT


def test_the_name_is_the_file_the_config_and_the_value(case) -> None:
    assert case.made().arch == case.arch
    assert dictionaries.config_class(case.arch) is type(case.config)
    assert getattr(dictionaries, case.arch).Config is case.cls.Config
    assert dictionaries.build(case.config).arch == case.arch


def test_an_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(NotFound, match=r'"gatd" is not an architecture\. Did you mean "gated"\?'):
        dictionaries.class_of("gatd")


def test_cases_are_distinct() -> None:
    assert len({str(c) for c in CASES}) == len(CASES)
