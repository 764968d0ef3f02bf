"""The table of cells."""

from __future__ import annotations

import pytest

from fastrnn.core import constants
from fastrnn.core.cells import CELLS, KINDS, cell_of, listed


def test_the_table_has_the_cells_of_the_header():
    assert tuple(KINDS) == constants.CELL_NAMES
    assert [cell.number for cell in KINDS.values()] == list(range(len(KINDS)))


def test_a_name_and_an_activation_are_one_cell():
    for cell in KINDS.values():
        assert cell_of(cell.name, cell.activation) is cell
    assert cell_of("rnn") is CELLS["rnn"]
    with pytest.raises(ValueError, match="activation='relu' is for cell='rnn'; a gru has fixed activations"):
        cell_of("gru", "relu")


@pytest.mark.parametrize("cell", KINDS.values(), ids=KINDS)
def test_what_a_row_names_is_there(cell):
    assert sorted(cell.operator_gates) == (sorted(cell.gates) if cell.operator else [])
    assert {cell.split_bias, cell.forget_gate} <= {None, *cell.gates}
    assert [cell.rows(gate, 5) for gate in cell.gates] == [
        slice(5 * g, 5 * g + 5) for g in range(len(cell.gates))
    ]


def test_names_are_listed_as_in_a_sentence():
    assert listed(["rnn", "gru", "lstm"]) == "rnn, gru or lstm"
    assert listed(["one"]) == "one"
