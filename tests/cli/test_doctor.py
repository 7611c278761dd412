"""``d2l-deeprnn doctor`` on a machine where MXNet works; see tests/_mxnet for others."""

import sys

import pytest

from d2l_deeprnn.cli import main


@pytest.fixture
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("d2l_deeprnn.cli.doctor.TRIAL", "pass")  # MXNet takes seconds
    return tmp_path


def test_versions_are_shown_and_mxnet_works(capsys):
    status = main(["doctor"])
    out = capsys.readouterr().out
    assert status == 0 and out.endswith("\nMXNet works, and nothing is missing.\n")
    assert sys.executable in out and "\nmxnet" in out and "\nnumpy " in out


def test_a_trial_that_fails_is_shown_by_its_last_line(home, monkeypatch, capsys):
    monkeypatch.setattr("d2l_deeprnn.cli.doctor.TRIAL", "raise RuntimeError('odd')")
    assert main(["doctor"]) == 2
    assert "\nproblem: RuntimeError: odd\n" in capsys.readouterr().out


def test_a_cache_that_cannot_be_written_is_a_problem(home, monkeypatch, capsys):
    monkeypatch.setattr("os.access", lambda path, mode: path != home)
    assert main(["doctor"]) == 2
    assert f"problem: texts cannot be kept in {home}/.cache" in capsys.readouterr().out
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert main(["doctor"]) == 2
    assert (
        "problem: there is no home directory to keep texts in: set XDG" in capsys.readouterr().out
    )
