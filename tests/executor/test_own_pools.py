"""Processes of a pool that the caller has had for long: what they held before is no step's."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor

import pytest

import runstore
from runstore import Dag, start, task
from runstore.errors import PipelineError

TEXT = """
import runstore
def f():
    return {value}
pipeline = runstore.sequence(runstore.task(f, returns="x"))
"""


def test_they_run_the_pipeline_file_as_it_is_now(tmp_path):
    file = tmp_path / "p.py"
    with ProcessPoolExecutor(1) as pool:
        for value in (1, 22, 1):
            file.write_text(TEXT.format(value=value))
            pipeline = runstore.load_pipeline(str(file))
            result = start(pipeline, store=tmp_path / "s", executor=pool, environment={})
            assert result.values() == {"x": value}


def test_they_run_no_other_file_than_the_one_that_was_read(tmp_path):
    file = tmp_path / "p.py"
    file.write_text(TEXT.format(value=1))
    pipeline = runstore.load_pipeline(str(file))
    file.write_text(TEXT.format(value=22))
    with ProcessPoolExecutor(1) as pool, pytest.raises(PipelineError, match="was changed while"):
        start(pipeline, store=tmp_path / "s", executor=pool, environment={})


def test_they_find_the_pipeline_file_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "p.py").write_text(TEXT.format(value=3))
    monkeypatch.chdir(tmp_path)
    pipeline = runstore.load_pipeline("p.py")
    with ProcessPoolExecutor(1) as pool:
        pool.submit(os.chdir, str(tmp_path / "elsewhere")).result()
        result = start(pipeline, store="s", executor=pool, environment={})
    assert result.values() == {"x": 3}


def environment_of_a_step():
    return os.environ.get("RUNSTORE_RETRY_RUN_ID", "none")


def test_a_step_inherits_no_retry_from_the_process_that_it_is_in(tmp_path, monkeypatch):
    """The pool began while the variable was there, before any run."""
    made = Dag([task(environment_of_a_step, returns="x")])
    monkeypatch.setenv("RUNSTORE_RETRY_RUN_ID", "other")
    with ProcessPoolExecutor(1) as pool:
        pool.submit(os.getpid).result()
        result = start(made, store=tmp_path, executor=pool, environment={})
        assert pool.submit(environment_of_a_step).result() == "other", "it is put back"
    assert result.values() == {"x": "none"}
