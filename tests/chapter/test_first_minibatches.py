"""The first losses are the original's, with any kernels."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BESIDE_THE_ORIGINAL = (
    "tests/chapter/test_train.py::"
    "test_gluon_training_equals_the_original_with_the_chapters_settings"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [{"DNNL_MAX_CPU_ISA": "SSE41"}, {"OPENBLAS_CORETYPE": "Nehalem"}],
    ids=["oneDNN", "OpenBLAS"],
)
def test_the_first_losses_are_the_originals_with_an_older_processors_kernels(original, variables):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", BESIDE_THE_ORIGINAL]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    run = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert run.returncode == 0, run.stdout
    assert "1 passed" in run.stdout


def rows():
    with open(ROOT / "results" / "first_minibatches.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_array_by_array_all_losses_are_the_originals_to_the_bit():
    """So only the update and clipping of the single vector round differently."""
    found = [row for row in rows() if row["a"] == "arrays"]
    assert found and all(row["first_difference"] == "none" for row in found)


def test_without_fused_multiply_add_all_losses_are_the_originals_to_the_bit():
    found = [row for row in rows() if row["a"] == "ours" and "no FMA" in row["kernels"]]
    assert found and all(row["first_difference"] == "none" for row in found)
