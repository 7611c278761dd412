"""``d2l-deeprnn doctor`` on a machine where MXNet works; see tests/_mxnet for others."""

import sys

from d2l_deeprnn.cli import main


def test_versions_are_shown_and_mxnet_works(capsys):
    status = main(["doctor"])
    out = capsys.readouterr().out
    assert status == 0 and out.endswith("\nMXNet works.\n")
    assert sys.executable in out and "\nmxnet" in out and "\nnumpy " in out


def test_a_data_directory_that_does_not_exist_is_a_problem(monkeypatch, capsys):
    monkeypatch.setenv("D2L_DEEPRNN_DATA", "/nowhere")
    assert main(["doctor"]) == 2
    assert "problem: D2L_DEEPRNN_DATA is set to '/nowhere'" in capsys.readouterr().out


def test_a_trial_that_fails_is_shown_by_its_last_line(monkeypatch, capsys):
    monkeypatch.setattr("d2l_deeprnn.cli.doctor.TRIAL", "raise RuntimeError('odd')")
    assert main(["doctor"]) == 2
    assert "\nproblem: RuntimeError: odd\n" in capsys.readouterr().out
