"""Initial weights: the meaning of each name, the order of the draws, and the bytes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.core.cells import CELLS
from fastrnn.network.initialization import INITIALIZATIONS, check_initialization, initialize, orthogonal

GATES = {name: len(cell.gates) for name, cell in CELLS.items()}
NAMES = list(INITIALIZATIONS)

Parameters = dict[str, np.ndarray]


def empty(
    cell: str = "rnn", V: int = 7, H: int = 5, L: int = 1, E: int | None = None, *, tied: bool = False
) -> Parameters:
    """A network's parameters before they are drawn: all NaN."""
    rows = GATES[cell] * H
    shapes: dict[str, tuple[int, ...]] = {} if E is None else {"embedding.weight": (V, E)}
    for layer in range(L):
        shapes[f"weight_ih_l{layer}"] = (rows, H if layer else E or V)
        shapes[f"weight_hh_l{layer}"] = (rows, H)
        shapes[f"bias_l{layer}"] = (rows,)
        if split := CELLS[cell].split_bias:
            shapes[f"bias_h{split}_l{layer}"] = (H,)
    shapes |= {"head.bias": (V,)} if tied else {"head.weight": (V, H), "head.bias": (V,)}
    return {name: np.full(shape, np.nan) for name, shape in shapes.items()}


def draw(name: str, cell: str = "rnn", H: int = 5, *, rng: object = 0, **sizes: object) -> Parameters:
    parameters = empty(cell, H=H, **sizes)
    generator = np.random.default_rng(rng) if isinstance(rng, int) else rng
    initialize(parameters, name, cell=cell, hidden_size=H, rng=generator)
    return parameters


def blocks(parameters: Parameters, name: str) -> list[np.ndarray]:
    """The gates' blocks of a weight."""
    H = parameters["weight_hh_l0"].shape[1]
    return np.split(parameters[name], len(parameters[name]) // H)


# ---- Names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_name", "canonical"),
    [
        *[(name, name) for name in NAMES],
        ("normal(0.01)", "normal"),
        ("normal(0.02)", "normal(0.02)"),
        (" uniform ( 5e-2 ) ", "uniform(0.05)"),
        ("uniform(1)", "uniform(1.0)"),
        ("normal(1000)", "normal(1000.0)"),
    ],
)
def test_a_name_has_one_spelling(given_name: str, canonical: str):
    assert check_initialization(given_name) == canonical
    assert check_initialization(canonical) == canonical


@pytest.mark.parametrize(
    "value", ["xavier", "Normal", "", "normal(0.1", "normal((1))", "normal 0.1", None, 1, b"normal"]
)
def test_an_unknown_name_is_refused_with_those_that_are_known(value: object):
    with pytest.raises(ValueError) as error:
        check_initialization(value)
    assert f"initialization={value!r} is not known" in str(error.value)
    assert "'normal(STD)', 'uniform(BOUND)', 'orthogonal', 'identity', 'zeros'" in str(error.value)


@pytest.mark.parametrize("number", ["0", "-1", "nan", "inf", "1e-400", "1001", "", "a", "1, 2"])
def test_a_number_out_of_range_is_refused(number: str):
    with pytest.raises(ValueError, match=r"STD must be a number above zero, at most 1000"):
        check_initialization(f"normal({number})")
    with pytest.raises(ValueError, match=r"BOUND must be a number above zero, at most 1000"):
        initialize({}, f"uniform({number})", cell="rnn", hidden_size=1, rng=None)


@pytest.mark.parametrize("name", ["orthogonal", "identity", "zeros"])
def test_a_number_where_none_belongs_is_refused(name: str):
    with pytest.raises(ValueError, match=rf"='{name}\(1\)' has a number, and '{name}' has none"):
        check_initialization(f"{name}(1)")


# ---- What each one draws -------------------------------------------------------------------------


@pytest.mark.parametrize("rng", [np.random.default_rng, np.random.RandomState])
def test_normal_draws_each_matrix_in_order_and_nothing_else(rng: type):
    drawn, again = draw("normal", "gru", L=2, E=3, rng=rng(4)), rng(4)
    for name, array in drawn.items():
        expected = np.zeros(array.shape) if array.ndim == 1 else again.standard_normal(array.shape) * 0.01
        np.testing.assert_array_equal(array, expected, err_msg=name)
    for name, array in draw("normal(0.5)", "gru", L=2, E=3, rng=rng(4)).items():
        np.testing.assert_allclose(array, 50 * drawn[name])


def test_normal_draws_the_seed_s_weights():
    drawn, rng = draw("normal", V=4, H=16, rng=np.random.RandomState(42)), np.random.RandomState(42)
    for name, shape in (("weight_ih_l0", (16, 4)), ("weight_hh_l0", (16, 16)), ("head.weight", (4, 16))):
        np.testing.assert_array_equal(drawn[name], rng.randn(*shape) * 0.01)
    assert not drawn["bias_l0"].any() and not drawn["head.bias"].any()


@pytest.mark.parametrize(("name", "bound"), [("uniform", 1 / np.sqrt(50)), ("uniform(0.3)", 0.3)])
@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_uniform_fills_its_bounds_biases_too(name: str, bound: float, cell: str):
    for array in draw(name, cell, V=60, H=50, E=40).values():
        assert 0.7 * bound < np.abs(array).max() <= bound
        assert 0.25 * array.size < (array > 0).sum() < 0.75 * array.size
        if array.ndim == 2:
            assert abs(array.mean()) < 0.05 * bound
            assert abs(array.std() / bound - 1 / np.sqrt(3)) < 0.02


@pytest.mark.parametrize("cell", GATES)
@pytest.mark.parametrize("name", ["orthogonal", "identity"])
def test_each_gate_has_a_block_of_its_own_and_the_rest_is_uniform(name: str, cell: str):
    H, V, E = 40, 60, 30
    drawn = draw(name, cell, V=V, H=H, L=2, E=E)
    for layer in range(2):
        found = blocks(drawn, f"weight_hh_l{layer}")
        assert len(found) == GATES[cell]
        for block in found:
            np.testing.assert_allclose(block.T @ block, np.eye(H), atol=1e-13)
            assert (name == "identity") == np.array_equal(block, np.eye(H))
        if name == "orthogonal":
            assert len({block.tobytes() for block in found}) == GATES[cell]
    fans = {"embedding.weight": V + E, "weight_ih_l0": E + H, "weight_ih_l1": H + H, "head.weight": V + H}
    for key, fan in fans.items():
        bound = np.sqrt(6 / fan)
        if name == "identity" and key.startswith("weight_ih"):
            bound = 0.001 * np.sqrt(3)
        assert 0.98 * bound < np.abs(drawn[key]).max() <= bound, key
        assert abs(drawn[key].std() / (bound / np.sqrt(3)) - 1) < 0.05, key
    assert not drawn["head.bias"].any()
    if cell == "gru":
        assert not drawn["bias_l0"].any() and not drawn["bias_hn_l1"].any()


@pytest.mark.parametrize("name", NAMES)
def test_an_lstm_remembers_at_first(name: str):
    drawn = draw(name, "lstm", L=2)
    for layer in range(2):
        i, f, g, o = blocks(drawn, f"bias_l{layer}")
        assert (f == (0 if name == "zeros" else 1)).all()
        for other in (i, g, o):
            assert other.any() == (name == "uniform") and not (other == 1).any()


@pytest.mark.parametrize("cell", GATES)
def test_zeros_draw_nothing(cell: str):
    rng = np.random.default_rng(0)
    assert not any(array.any() for array in draw("zeros", cell, E=3, rng=rng).values())
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("name", ["normal", "uniform", "orthogonal", "identity"])
def test_what_comes_first_is_drawn_first(name: str):
    """More layers, or a head that is not tied, do not change the parameters before them."""
    one, two = draw(name, L=1, E=5, tied=True), draw(name, L=2, E=5)
    for key in ("embedding.weight", "weight_ih_l0", "weight_hh_l0", "bias_l0"):
        np.testing.assert_array_equal(one[key], two[key])
    assert "head.weight" not in one


@pytest.mark.parametrize("name", NAMES)
def test_views_of_any_strides_and_dtype_get_the_same_numbers(name: str):
    expected = draw(name, "lstm", E=3)
    parameters = {key: np.full(a.shape[::-1], np.nan, np.float32).T for key, a in expected.items()}
    initialize(parameters, name, cell="lstm", hidden_size=5, rng=np.random.default_rng(0))
    for key, array in parameters.items():
        np.testing.assert_array_equal(array, expected[key].astype(np.float32))


@given(
    name=st.sampled_from([*NAMES, "normal(2)", "uniform(3)"]),
    cell=st.sampled_from(list(GATES)),
    V=st.integers(1, 9),
    H=st.integers(1, 9),
    L=st.integers(1, 3),
    E=st.none() | st.integers(1, 9),
    tied=st.booleans(),
    legacy=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_every_network_is_filled_and_repeatable(
    name: str, cell: str, V: int, H: int, L: int, E: int | None, tied: bool, legacy: bool
):
    sizes = {"V": V, "H": H, "L": L, "E": H if tied else E, "tied": tied}
    make = np.random.RandomState if legacy else np.random.default_rng
    first, second = (draw(name, cell, rng=make(3), **sizes) for _ in range(2))
    for key, array in first.items():
        assert np.isfinite(array).all()
        assert array.tobytes() == second[key].tobytes()


# ---- Orthogonal matrices -------------------------------------------------------------------------


@given(H=st.integers(1, 150), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_orthogonal_matrices_are_orthogonal(H: int, seed: int):
    Q = orthogonal(np.random.default_rng(seed), H)
    assert Q.shape == (H, H)
    assert np.abs(Q.T @ Q - np.eye(H)).max() <= 1e-13
    assert np.abs(Q @ Q.T - np.eye(H)).max() <= 1e-13


def test_one_unit_has_either_sign():
    assert {orthogonal(np.random.default_rng(seed), 1).item() for seed in range(20)} == {-1.0, 1.0}


@pytest.mark.parametrize("H", [2, 3, 8, 64, 128])
def test_orthogonal_matrices_look_uniform(H: int):
    """Moments are those of the uniform (Haar) distribution, within five standard deviations."""
    rng, n = np.random.default_rng(1), 400
    Q = np.stack([orthogonal(rng, H) for _ in range(n)])
    moments = {
        "elements": (Q.mean((1, 2)) * H, 0),
        "traces": (np.trace(Q, axis1=1, axis2=2), 0),
        "squared traces": (np.trace(Q, axis1=1, axis2=2) ** 2, 1),
        "traces of squares": (np.einsum("nij,nji->n", Q, Q), 1),
        "determinants": (np.linalg.det(Q), 0),
        "first element squared": (Q[:, 0, 0] ** 2 * H, 1),
        "last element squared": (Q[:, -1, -1] ** 2 * H, 1),
        "kurtosis": ((Q**4).mean((1, 2)) * H**2, 3 * H / (H + 2)),
        "neighbours' products": ((Q[:, :, 1:] * Q[:, :, :-1])[:, :-1].mean((1, 2)) * H, 0),
    }
    for what, (values, expected) in moments.items():
        assert abs(values.mean() - expected) <= 5 * values.std() / np.sqrt(n), what


@pytest.mark.parametrize("H", [64, 128])
def test_elements_are_spread_as_those_of_a_point_on_the_sphere(H: int):
    Q = np.stack([orthogonal(np.random.default_rng(seed), H) for seed in range(50)]) * np.sqrt(H)
    assert (Q != 0).all()
    points = np.random.default_rng(0).standard_normal((10_000, H))
    points *= np.sqrt(H) / np.linalg.norm(points, axis=1, keepdims=True)
    for quantile in (0.1, 0.67, 1.64, 2.58):
        assert abs((np.abs(Q) < quantile).mean() - (np.abs(points) < quantile).mean()) < 0.004
        assert abs((quantile > Q).mean() - (quantile > points).mean()) < 0.004


# ---- The same bytes on every machine -------------------------------------------------------------


def digest(parameters: Parameters) -> str:
    whole = hashlib.sha256()
    for array in parameters.values():
        whole.update(np.ascontiguousarray(array, "<f8").tobytes())
    return whole.hexdigest()[:16]


@pytest.mark.parametrize(
    ("name", "cell", "H", "seed", "expected"),
    [
        ("uniform", "rnn", 1, 0, "bb0ea5f68faf5aed"),
        ("uniform", "gru", 17, 1, "918fdfc90f10172b"),
        ("uniform", "lstm", 64, 2, "52740be0780415af"),
        ("uniform(0.05)", "rnn", 1, 0, "3dd3c2b36a025e6d"),
        ("uniform(0.05)", "gru", 17, 1, "da6abb584642db87"),
        ("uniform(0.05)", "lstm", 64, 2, "4543819d081ccbef"),
        ("orthogonal", "rnn", 1, 0, "572644a98300ae80"),
        ("orthogonal", "gru", 17, 1, "b749f8752112db91"),
        ("orthogonal", "lstm", 64, 2, "34d7a6039ffea9b8"),
        ("identity", "rnn", 1, 0, "ef5971e4bb138715"),
        ("identity", "gru", 17, 1, "c5ce54e6ecd21cd0"),
        ("identity", "lstm", 64, 2, "974ebbe74d2bd98f"),
    ],
)
def test_the_bytes_are_these(name: str, cell: str, H: int, seed: int, expected: str):
    assert digest(draw(name, cell, H=H, V=11, L=2, E=6, rng=seed)) == expected


@pytest.mark.parametrize(("H", "expected"), [(33, "9b8719aaed7310b6"), (200, "eb32f40223ec31c6")])
def test_the_bytes_from_a_random_state_are_these(H: int, expected: str):
    drawn = draw("orthogonal", H=H, V=11, L=2, E=6, rng=np.random.RandomState(42))
    assert digest(drawn) == expected
