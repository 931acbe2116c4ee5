"""Products of matrices: plain, square, in batches, with a vector, bilinear."""
import numpy as np
from corpus.case import Operation

from minidl import Function


def normal(rng, *shapes):
    return tuple(rng.normal(size=shape) for shape in shapes)


# matmul of two matrices

def samples(rng):
    yield normal(rng, (3, 4), (4, 5)), {}
    yield normal(rng, (2, 6), (6, 3)), {}
    yield normal(rng, (1, 4), (4, 2)), {}
    yield normal(rng, (5, 1), (1, 3)), {}


def matmul_reference(a, b):
    out = np.zeros((a.shape[0], b.shape[1]))
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            out[i, j] = sum(a[i, k] * b[k, j] for k in range(a.shape[1]))
    return out


def matmul_forward(a, b):
    return a @ b, (a, b)


def matmul_only(a, b):
    return np.einsum("ik,kj->ij", a, b)


matmul = Operation("matmul", samples, matmul_reference, matmul_forward)


@matmul.mistake("transposed")
def returns_both_transposed(dout, cache):
    a, b = cache
    return b @ dout.T, dout.T @ a


@matmul.mistake("transposed")
def second_gradient_transposed(dout, cache):
    a, b = cache
    return dout @ b.T, dout.T @ a


@matmul.mistake("wrong-shape")
def exchanges_the_gradients(dout, cache):
    a, b = cache
    return a.T @ dout, dout @ b.T


@matmul.mistake("ignores-upstream")
def sums_of_the_factors(dout, cache):
    a, b = cache
    one = np.ones_like(dout)
    return one @ b.T, a.T @ one


@matmul.mistake("scale")
def averages_over_the_rows(dout, cache):
    a, b = cache
    return dout @ b.T, a.T @ dout / len(a)


@matmul.mistake("sign")
def descends_already(dout, cache):
    a, b = cache
    return -dout @ b.T, -a.T @ dout


@matmul.mistake("zero")
def takes_the_second_as_constant(dout, cache):
    a, b = cache
    return dout @ b.T, None


@matmul.mistake("wrong-dtype")
def multiplies_in_float32(dout, cache):
    a, b = (v.astype(np.float32) for v in cache)
    d = dout.astype(np.float32)
    return d @ b.T, a.T @ d


@matmul.mistake("overwrites-overlap")
def loop_forgets_to_add_over_the_columns(dout, cache):
    """Each element of a is used for every column of the output."""
    a, b = cache
    da, db = np.zeros_like(a), a.T @ dout
    for j in range(dout.shape[1]):
        da = np.outer(dout[:, j], b[:, j])
    return da, db


@matmul.correct()
def two_products(dout, cache):
    a, b = cache
    return dout @ b.T, a.T @ dout


@matmul.correct(forward=matmul_only)
def by_einsum(dout, a, b):
    return [np.einsum("ij,kj->ik", dout, b), np.einsum("ik,ij->kj", a, dout)]


@matmul.correct()
def by_three_loops(dout, cache):
    a, b = cache
    da, db = np.zeros_like(a), np.zeros_like(b)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            for k in range(a.shape[1]):
                da[i, k] += dout[i, j] * b[k, j]
                db[k, j] += dout[i, j] * a[i, k]
    return da, db


@matmul.correct()
class Matmul(Function):
    def forward(self, a, b):
        self.a, self.b = a, b
        return np.dot(a, b)

    def backward(self, dy):
        return (self.b @ dy.T).T, (dy.T @ self.a).T


@matmul.mistake("transposed")
class MatmulTransposed(Function):
    def forward(self, a, b):
        self.a, self.b = a, b
        return a @ b

    def backward(self, dy):
        return dy @ self.b.T, (self.a.T @ dy).T


# matmul of two square matrices, where a forgotten .T does not show in the shapes

def square_samples(rng):
    for n in (4, 3, 5):
        yield normal(rng, (n, n), (n, n)), {}


square = Operation("matmul_square", square_samples, matmul_reference, matmul_forward)


@square.mistake("transposed")
def forgets_to_transpose_b(dout, cache):
    a, b = cache
    return dout @ b, a.T @ dout


@square.mistake("transposed")
def forgets_to_transpose_a(dout, cache):
    a, b = cache
    return dout @ b.T, a @ dout


@square.mistake("transposed")
def transposes_nothing(dout, cache):
    a, b = cache
    return dout @ b, a @ dout


@square.mistake("unknown")
def exchanges_the_order_of_the_factors(dout, cache):
    a, b = cache
    return b.T @ dout, dout @ a.T


@square.mistake("unknown")
def multiplies_element_by_element(dout, cache):
    a, b = cache
    return dout * b, dout * a


@square.mistake("ignores-upstream")
def returns_the_other_factor(dout, cache):
    a, b = cache
    return b.T, a.T


@square.correct()
def both_transposed(dout, cache):
    a, b = cache
    return dout @ b.T, a.T @ dout


# matmul in batches; one or the other may be shared by the batch

def batch_samples(rng):
    yield normal(rng, (2, 3, 4), (2, 4, 5)), {}
    yield normal(rng, (3, 2, 4), (4, 5)), {}
    yield normal(rng, (4, 2), (3, 2, 5)), {}
    yield normal(rng, (1, 2, 3), (4, 3, 2)), {}


def batch_reference(a, b):
    n = max(len(v) if v.ndim == 3 else 1 for v in (a, b))
    a, b = (np.broadcast_to(v, (n, *v.shape[-2:])) for v in (a, b))
    return np.stack([matmul_reference(p, q) for p, q in zip(a, b)])


batched = Operation("matmul_batched", batch_samples, batch_reference, matmul_forward)


def fit(g, shape):
    """Sums over the batch where an input was shared by it."""
    if len(shape) == 2:
        return g.sum(axis=0)
    return g.sum(axis=0, keepdims=True) if shape[0] == 1 else g


@batched.mistake("broadcast-not-summed")
def keeps_the_batch_axis(dout, cache):
    a, b = cache
    return dout @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ dout


@batched.mistake("transposed")
def returns_the_gradient_of_b_transposed(dout, cache):
    a, b = cache
    da, db = dout @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ dout
    return fit(da, a.shape), fit(db, b.shape).swapaxes(-1, -2)


@batched.mistake("one-sample-only")
def takes_the_first_of_the_batch(dout, cache):
    a, b = cache
    da, db = dout @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ dout
    return [g[0] if v.ndim == 2 else g[:1] if len(v) < len(g) else g for g, v in ((da, a), (db, b))]


@batched.mistake("scale")
def averages_over_the_shared_batch(dout, cache):
    a, b = cache
    da, db = dout @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ dout
    return fit(da, a.shape) / len(dout), fit(db, b.shape) / len(dout)


@batched.correct()
def swaps_and_sums(dout, cache):
    a, b = cache
    return fit(dout @ b.swapaxes(-1, -2), a.shape), fit(a.swapaxes(-1, -2) @ dout, b.shape)


@batched.correct()
def loops_over_the_batch(dout, cache):
    a, b = cache
    da, db = np.zeros_like(a), np.zeros_like(b)
    for n, up in enumerate(dout):
        p = a if a.ndim == 2 else a[n % len(a)]
        q = b if b.ndim == 2 else b[n % len(b)]
        into_a = da if a.ndim == 2 else da[n % len(a)]
        into_b = db if b.ndim == 2 else db[n % len(b)]
        into_a += up @ q.T
        into_b += p.T @ up
    return da, db


# matrix times vector

def vector_samples(rng):
    yield normal(rng, (4, 5), (5,)), {}
    yield normal(rng, (3, 2), (2,)), {}
    yield normal(rng, (4, 4), (4,)), {}


matvec = Operation("matvec", vector_samples, lambda A, x: np.array([sum(r * x) for r in A]), lambda A, x: (A @ x, (A, x)))


@matvec.mistake("transposed")
def outer_product_the_other_way_round(dout, cache):
    A, x = cache
    return np.outer(x, dout), A.T @ dout


@matvec.mistake("wrong-shape")
def returns_a_column(dout, cache):
    A, x = cache
    return np.outer(dout, x), A.T @ dout[:, None]


@matvec.mistake("ignores-upstream")
def rows_of_x(dout, cache):
    A, x = cache
    return np.tile(x, (len(A), 1)), A.T @ dout


@matvec.correct()
def outer_product(dout, cache):
    A, x = cache
    return np.outer(dout, x), dout @ A


# quadratic form of every row: x A x

def quadratic_samples(rng):
    yield normal(rng, (3, 4), (4, 4)), {}
    yield normal(rng, (5, 2), (2, 2)), {}
    yield normal(rng, (1, 3), (3, 3)), {}


def quadratic_reference(x, A):
    return np.array([sum(row[i] * A[i, j] * row[j] for i, j in np.ndindex(A.shape)) for row in x])


quadratic = Operation("quadratic_form", quadratic_samples, quadratic_reference,
                      lambda x, A: (np.sum((x @ A) * x, axis=1), (x, A)))


@quadratic.mistake("unknown")
def takes_a_for_symmetric(dout, cache):
    x, A = cache
    return 2 * dout[:, None] * (x @ A), x.T @ (dout[:, None] * x)


@quadratic.mistake("unknown")
def forgets_the_second_x(dout, cache):
    x, A = cache
    return dout[:, None] * (x @ A), x.T @ (dout[:, None] * x)


@quadratic.mistake("one-sample-only")
def matrix_gradient_of_the_last_row(dout, cache):
    x, A = cache
    dx = np.zeros_like(x)
    for n, row in enumerate(x):
        dx[n] = dout[n] * (A + A.T) @ row
        dA = dout[n] * np.outer(row, row)
    return dx, dA


@quadratic.correct()
def both_places_of_x(dout, cache):
    x, A = cache
    return dout[:, None] * (x @ (A + A.T)), np.einsum("n,ni,nj->ij", dout, x, x)
