"""Rows are read as they were written, with a description of what made them."""

import json

import pytest

from d2l_deeprnn.evidence.provenance import versions
from d2l_deeprnn.evidence.records import (
    RecordError,
    Table,
    column,
    group_by,
    read_files,
    read_rows,
    select,
    spread,
    spread_of,
    summary_table,
    write_record,
)

ROWS = [{"kind": "a, b", "epoch": 1, "loss": 0.125}, {"kind": "c", "epoch": 2, "loss": 1e-9}]


def test_rows_are_read_as_they_were_written(tmp_path):
    write_record(tmp_path / "below" / "name", ROWS, command="x", settings={"seed": 1})
    assert read_rows(tmp_path / "below" / "name.csv") == ROWS
    assert read_files({"rows": "name"}, tmp_path / "below") == {"rows": ROWS}
    described = json.loads((tmp_path / "below" / "name.json").read_text())
    assert described["command"] == "x" and described["settings"] == {"seed": 1}
    assert described["versions"] == versions() and described["machine"]["processor"]


def test_given_versions_and_machine_are_kept(tmp_path):
    write_record(tmp_path / "name", ROWS, versions={"a": "1"}, machine=["m", "n"])
    described = json.loads((tmp_path / "name.json").read_text())
    assert described == {"versions": {"a": "1"}, "machine": ["m", "n"]}


def test_the_origin_of_earlier_rows_is_kept(tmp_path):
    for number, adding in ("1", False), ("1", True), ("2", True), ("1", True):
        write_record(tmp_path / "name", ROWS, adding=adding, versions={"a": number}, machine="m")
    described = json.loads((tmp_path / "name.json").read_text())
    assert described == {"versions": [{"a": "1"}, {"a": "2"}], "machine": "m"}
    write_record(tmp_path / "name", ROWS, versions={"a": "3"}, machine="m")
    assert json.loads((tmp_path / "name.json").read_text())["versions"] == {"a": "3"}


def test_a_missing_cell_is_empty(tmp_path):
    write_record(tmp_path / "name", [{"a": 1}, {"a": 2, "b": 3}])
    assert read_rows(tmp_path / "name.csv") == [{"a": 1, "b": ""}, {"a": 2, "b": 3}]


@pytest.mark.parametrize("content", ["", "a,b\n", 'a,b\n"', "a\n\xff"])
def test_a_file_without_rows_is_named(tmp_path, content):
    (tmp_path / "name.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(RecordError, match=r"name\.csv (has no rows|cannot be read)"):
        read_rows(tmp_path / "name.csv")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"none\.csv cannot be read"):
        read_rows(tmp_path / "none.csv")


def test_rows_are_selected_and_grouped():
    assert select(ROWS, epoch=2) == ROWS[1:] and select(ROWS, epoch=3) == []
    assert column(ROWS, "epoch") == [1, 2]
    again = {**ROWS[0], "loss": 0.375}
    assert group_by([*ROWS, again], "kind") == {"a, b": [ROWS[0], again], "c": [ROWS[1]]}
    groups = group_by([*ROWS, again], "kind", "epoch")
    assert groups == {("a, b", 1): [ROWS[0], again], ("c", 2): [ROWS[1]]}
    table = summary_table(
        "title",
        ["kind", "epoch"],
        groups,
        {"loss": spread_of("loss", 2), "n": lambda r: str(len(r))},
    )
    assert table.columns == ["kind", "epoch", "loss", "n"]
    assert table.rows == [["a, b", "1", "0.25 (0.12 to 0.38)", "2"], ["c", "2", "0.00", "1"]]


def test_tables_as_text():
    assert spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0 to 3.0)" and spread([1234.25], 2) == "1,234.25"
    table = Table("title", ["a", "long name"], [["1", "2"], ["three", "4"]])
    assert str(table).splitlines()[2:4] == ["a      long name", "-----  ---------"]
    assert table.markdown().splitlines()[3] == "| three | 4 |"
    assert table._repr_markdown_().startswith("**title**\n\n| a | long name |")
