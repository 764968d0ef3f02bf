"""fastrnn's powers and cosine are compared with libm's."""

from __future__ import annotations

import math

import numpy as np

from fastrnn.core.arithmetic import cosine_of_half_turns, integer_power


def test_integer_power_is_a_power_and_the_same_in_any_chunks():
    exponents = np.arange(2000)
    whole = integer_power(0.999, exponents)
    np.testing.assert_allclose(whole, 0.999**exponents, rtol=1e-13)
    parts = [integer_power(0.999, part) for part in np.array_split(exponents, 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_power_fades_to_zero():
    exponents = np.array([1, 2**40])
    np.testing.assert_array_equal(integer_power(0.5, exponents), [0.5, 0])
    np.testing.assert_array_equal(integer_power(1.0, exponents), 1)
    np.testing.assert_array_equal(integer_power(0.0, np.array([0, 1, 2])), [1, 0, 0])


def test_the_cosine_is_a_cosine():
    x = np.linspace(0, 1, 100_001)
    expected = [math.cos(math.pi * value) for value in x]
    np.testing.assert_allclose(cosine_of_half_turns(x), expected, rtol=0, atol=1e-15)


def test_the_cosine_is_exact_at_its_ends_and_falls_between():
    np.testing.assert_array_equal(cosine_of_half_turns(np.array([0.0, 1.0])), [1, -1])
    fall = np.diff(cosine_of_half_turns(np.linspace(0, 1, 10_001)))
    assert (fall <= 0).all()
