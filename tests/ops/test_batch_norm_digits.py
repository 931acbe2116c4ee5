"""Sums in one pass lose digits where the mean is large; there they must be taken about the mean."""
import numpy as np
import pytest
from operation_checks import relative_error

from minidl.function import plain_kernels
from minidl.ops import BatchNorm, BatchNormEval, batch_norm_cpu


@pytest.mark.parametrize("mean", [0.0, 1.0, 3.0, 30.0, 300.0])
def test_float32_keeps_its_digits_wherever_the_mean_is(mean):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((4, 5, 30, 20)) + mean * rng.choice([-1, 1], (1, 5, 1, 1))).astype(np.float32)
    w, b, dy = rng.uniform(0.5, 2, 5), rng.standard_normal(5), rng.standard_normal(x.shape)
    exact = BatchNorm()
    with plain_kernels():
        want = [exact.forward(x.astype(np.float64), w, b), *exact.backward(dy)]
    fast = BatchNorm()
    got = [fast.forward_cpu(x, w.astype(np.float32), b.astype(np.float32)), *fast.backward_cpu(dy.astype(np.float32))]
    # x itself is rounded to 6e-8 of its mean, before any kernel: the deviations from it carry that error
    for name, g, v in zip(("y", "dx", "dw", "db"), got, want):
        assert relative_error(g, v) <= 2e-6 + 1e-6 * mean, f"{name}: {relative_error(g, v):.1e}"


@pytest.mark.parametrize("mean", [0.0, 30.0, 1000.0])
def test_evaluation_keeps_its_digits_too(mean):
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((4, 5, 30, 20)) + mean).astype(np.float32)
    w, b, m, v, dy = (*(rng.uniform(0.5, 2, 5).astype(np.float32) for _ in range(2)), np.full(5, mean, np.float32),
                      np.ones(5, np.float32), rng.standard_normal(x.shape).astype(np.float32))
    exact, fast = BatchNormEval(), BatchNormEval()
    with plain_kernels():
        want = [exact.forward(*(a.astype(np.float64) for a in (x, w, b, m, v))), *exact.backward(dy.astype(np.float64))]
    for g, e in zip([fast.forward_cpu(x, w, b, m, v), *fast.backward_cpu(dy)], want):
        assert relative_error(g, e) <= 2e-6


def test_the_second_pass_is_made_only_where_it_is_needed(monkeypatch):
    passes, sums_of = [], batch_norm_cpu.sums_of
    monkeypatch.setattr(batch_norm_cpu, "sums_of", lambda a, x, k: passes.append(k is not None) or sums_of(a, x, k))
    x = np.random.default_rng(1).standard_normal((3, 4, 50)).astype(np.float32)
    mean, var = batch_norm_cpu.statistics(x)
    assert passes == [False]
    np.testing.assert_allclose(var, x.astype(np.float64).var(axis=(0, 2)), rtol=1e-5)
    x[:, 2] += 20
    passes.clear()
    mean, var = batch_norm_cpu.statistics(x)
    assert passes == [False, True]
    np.testing.assert_allclose(var, x.astype(np.float64).var(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(axis=(0, 2)), rtol=1e-5, atol=1e-6)
