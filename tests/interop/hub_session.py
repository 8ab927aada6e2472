"""Runs command lines of assay, one after another in one process, and prints what each said as JSON: for tests that need an
environment of their own. Standard input: [[word, ...], ...]."""

from __future__ import annotations

import contextlib
import io
import json
import sys

from assay.cli.main import main

said = []
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    said.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
sys.__stdout__.write(json.dumps(said))
