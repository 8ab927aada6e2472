"""`case` runs a test over every architecture; a class, or an instance with certain options, may excuse itself from a test by
`exceptions = {test: reason}`. What steps densely is not asked about steps on a support."""

from __future__ import annotations

import pytest
from dictionary_examples import CASES, ON_A_SUPPORT, Case

from assay.dictionaries import DENSE


def excuse(case: Case, test: str) -> None:
    """Skip where the instance says why, or where it steps densely and the test is about the support."""
    reason = case.plain.exceptions.get(test)
    if reason is None and test in ON_A_SUPPORT and case.plain.step == DENSE:
        reason = "steps densely"
    if reason:
        pytest.skip(f"{case}: {reason}")


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    excuse(request.param, request.function.__name__)
    return request.param


@pytest.fixture(params=[c for c in CASES if c.learned_by_gradient], ids=str)
def learned(request: pytest.FixtureRequest) -> Case:
    """Only the architectures that are trained by gradient."""
    excuse(request.param, request.function.__name__)
    return request.param
