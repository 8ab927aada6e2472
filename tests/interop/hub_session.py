"""Runs command lines of assay, one after another in one process, and prints what each said as JSON: for tests that need an
environment of their own. Standard input: [[word, ...], ...]; a {name: value} among them is put into the environment, or taken out if null."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys

from assay.cli.main import main

said = []
for words in json.load(sys.stdin):
    if isinstance(words, dict):
        for name, value in words.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        continue
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    said.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
sys.__stdout__.write(json.dumps(said))
