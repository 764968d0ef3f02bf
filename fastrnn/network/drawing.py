"""Draws symbols from a network: rows of symbols side by side, in short native calls.

B batch rows · V vocabulary · H hidden units · L layers · Z arrays of a state · Q states of an automaton
D symbols that a row has already
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastrnn.core import checks, memory
from fastrnn.core.plan import ALONE, Split, step_plan
from fastrnn.network.execution import SHORT_CALL_OPERATIONS, Array, Execution, Prepared

#: With so many rows or more, a row takes a fraction of the time that one row alone takes.
MANY_ROWS = 16


@dataclass(frozen=True)
class Automaton:
    """Which symbols may follow. Every state reaches an accepting one.

    Attributes
    ----------
    transitions
        int32 (Q, V): the state after each symbol; -1 where the symbol may not follow.
    distances
        int32 (Q): the fewest symbols from each state to an accepting one.
    """

    transitions: Array
    distances: Array


@dataclass(frozen=True)
class Rules:
    """How symbols are drawn. The contract's kernel `sample` defines each number."""

    temperature: float = 1.0
    top_k: int = checks.MAX_WHOLE_NUMBER
    top_p: float = 1.0
    min_p: float = 0.0
    penalty: float = 1.0
    window: int = 0
    ngram: int = 0
    automaton: Automaton | None = None

    @property
    def reads_symbols(self) -> bool:
        """Whether they depend on the symbols that a row has already."""
        return self.window > 0 or self.ngram > 0


@dataclass
class Rows:
    """What the next step of B rows reads, and replaces.

    Attributes
    ----------
    inputs
        int32 (B): the input of each row, its last symbol.
    places
        int32 (B): the state of each row's automaton; 0 without one.
    state
        The network's state (Z, L, B, H).
    symbols
        int32 (D, B): the symbols of each row that the rules read.
    """

    inputs: Array
    places: Array
    state: Array
    symbols: Array

    def only(self, rows: Any) -> Rows:
        """Some of the rows, in arrays of their own or in these."""
        return Rows(
            np.ascontiguousarray(self.inputs[rows]),
            np.ascontiguousarray(self.places[rows]),
            np.ascontiguousarray(self.state[:, :, rows]),
            self.symbols[:, rows],
        )


class Drawing(Execution):
    """The part of a network that draws symbols. Internal: the public part is `Network`, which extends it."""

    def sample(
        self,
        n: int,
        symbol: int,
        state: Array,
        *,
        temperature: float,
        rng: Any,
        stop_symbol: int | None = None,
    ) -> Array:
        """Draw n ids one after the other. Internal.

        The first id follows ``symbol`` and the state (Z, L, 1, H), which is updated. The ids (n) end early
        after ``stop_symbol``. Each takes one uniform draw. If the state or the logits overflow, it is a
        ``ValueError``.
        """
        uniforms = checks.uniforms(rng, n)[:, np.newaxis]
        rows = Rows(np.array([symbol], np.int32), np.zeros(1, np.int32), state, np.empty((0, 1), np.int32))
        rules, prepared, pieces = Rules(temperature), self.prepare_steps(), [np.empty(0, np.int32)]
        at_once = self.drawn_at_once(1)
        for start in range(0, n, at_once):
            some = uniforms[start : start + at_once]
            ids = self.draw(rows, some, rules, room=n, prepared=prepared, stop_symbol=stop_symbol)[:, 0]
            if ids.min() < 0 or not np.isfinite(state).all():
                raise self.out_of_range()
            ends = np.flatnonzero(ids == stop_symbol)
            pieces.append(ids[: int(ends[0]) + 1] if ends.size else ids)
            if ends.size:
                break
        return np.concatenate(pieces)

    def drawn_at_once(self, B: int) -> int:
        """How many symbols of B rows a call of `draw` may draw: well under a tenth of a second. Internal."""
        operations = min(self._cost().call, SHORT_CALL_OPERATIONS * min(B, MANY_ROWS))
        return max(1, operations // (B * self.shape.operations))

    def draw(
        self,
        rows: Rows,
        uniforms: Array,
        rules: Rules,
        *,
        room: int,
        prepared: Prepared,
        stop_symbol: int | None = None,
    ) -> Array:
        """Return the next n ids of each row (n, B), which the contract's kernel `sample` draws. Internal.

        The rows are updated, except for their symbols. ``uniforms`` (n, B) are the ids' uniform draws, and
        ``room`` is how many ids a row may still have in all.
        """
        n, B = uniforms.shape
        self._check_rows(rows, B)
        D = len(rows.symbols)
        symbols = np.empty((D + n, B), np.int32)
        symbols[:D] = rows.symbols
        memory.require(B * self.shape.V * (self.dtype.itemsize + 4), f"the logits of {B} rows")
        drawing = _Call(prepared, rules, room, -1 if stop_symbol is None else stop_symbol, D)
        split = self.split(n, B, passes=1)
        if split.by_columns:
            self._draw_part(drawing, slice(0, B), split, symbols, rows, uniforms)
        else:
            with self.workspace(0) as workspace:  # only its team is used; each part has its own workspace
                parts = workspace.team.at_most(split.parts)
                workspace.team.run(
                    parts,
                    lambda part: self._draw_part(
                        drawing, slice(B * part // parts, B * (part + 1) // parts), ALONE, symbols, rows,
                        uniforms,
                    ),
                )  # fmt: skip
        return symbols[D:]

    def _check_rows(self, rows: Rows, B: int) -> None:
        checks.buffer("inputs", rows.inputs, checks.INT32, (B,))
        checks.buffer("places", rows.places, checks.INT32, (B,))
        checks.buffer("state", rows.state, self.dtype, (self.shape.Z, self.shape.L, B, self.shape.H))
        for symbol in (rows.inputs.min(), rows.inputs.max()):
            if not 0 <= symbol < self.shape.V:
                raise ValueError(f"symbol={symbol} must be within 0 … {self.shape.V - 1}")

    def _draw_part(
        self, drawing: _Call, some: slice, split: Split, symbols: Array, rows: Rows, uniforms: Array
    ) -> None:
        """Do some rows of a call; the kernel needs them in contiguous arrays."""
        own, B = rows.only(some), some.stop - some.start
        own_symbols = np.ascontiguousarray(symbols[:, some])
        own_uniforms = np.ascontiguousarray(uniforms[:, some])
        plan, _ = step_plan(self.shape, B, split)
        logits, order = np.empty((B, self.shape.V), self.dtype), np.empty((B, self.shape.V), np.int32)
        rules, never = drawing.rules, np.zeros(B, np.uint8)
        transitions, distances = drawing.tables(self.shape.V)
        with self.workspace(plan.size) as workspace:
            team = workspace.team
            parts = team.at_most(split.parts)
            team.run(
                parts,
                lambda part: self.backend.sample(
                    symbols=own_symbols, inputs=own.inputs, places=own.places, state=own.state,
                    scratch=workspace.flat, logits=logits, order=order, barrier=team.barrier,
                    prepared=drawing.prepared.weights, params=self._flat, uniforms=own_uniforms,
                    starts=never, transitions=transitions, distances=distances, plan=plan.numbers,
                    temperature=rules.temperature, top_k=rules.top_k, top_p=rules.top_p, min_p=rules.min_p,
                    penalty=rules.penalty, window=rules.window, ngram=rules.ngram,
                    stop_symbol=drawing.stop_symbol, room=drawing.room, part=part, parts=parts,
                    D=drawing.D, Q=len(distances), n=len(uniforms), B=B,
                ),
            )  # fmt: skip
        symbols[drawing.D :, some] = own_symbols[drawing.D :]
        rows.inputs[some], rows.places[some], rows.state[:, :, some] = own.inputs, own.places, own.state


@dataclass(frozen=True)
class _Call:
    """What all rows of a call of `draw` have in common."""

    prepared: Prepared
    rules: Rules
    room: int
    stop_symbol: int
    D: int

    def tables(self, V: int) -> tuple[Array, Array]:
        """The automaton's arrays; without one, they have no state."""
        automaton = self.rules.automaton
        if automaton is None:
            return np.empty((0, V), np.int32), np.empty(0, np.int32)
        return automaton.transitions, automaton.distances
