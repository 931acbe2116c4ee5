"""Picking elements: getitem with slices and with repeated indices, embedding, take_along_axis."""
import numpy as np
from corpus.case import Operation

from minidl import Function

# getitem with an array of indices into the first axis, some of them several times


def rows_samples(rng):
    yield (rng.normal(size=(5, 4, 3)), np.array([2, 0, 2, 3, 2, 0, 1])), {}
    yield (rng.normal(size=(6, 4)), rng.permutation([0, 1, 1, 1, 5, -1, 3])), {}
    yield (rng.normal(size=7), np.array([[3, 3], [0, 6], [6, 6]])), {}
    yield (rng.normal(size=(1, 3)), np.array([0, 0])), {}


def rows_reference(x, index):
    return np.stack([x[int(i)] for i in index.ravel()]).reshape(index.shape + x.shape[1:])


def rows_forward(x, index):
    return x[index], (x.shape, index)


def rows_only(x, index):
    return np.take(x, index, axis=0)


getitem = Operation("getitem_rows", rows_samples, rows_reference, rows_forward)


@getitem.mistake("overwrites-overlap")
def assigns(dout, cache):
    shape, index = cache
    dx = np.zeros(shape)
    dx[index] = dout
    return dx


@getitem.mistake("overwrites-overlap")
def plus_equals_on_an_index_array(dout, cache):
    """NumPy adds only once for each repeated index."""
    shape, index = cache
    dx = np.zeros(shape)
    dx[index] += dout
    return dx


@getitem.mistake("overwrites-overlap")
def assigns_in_a_loop(dout, cache):
    shape, index = cache
    dx = np.zeros(shape)
    for place in np.ndindex(index.shape):
        dx[index[place]] = dout[place]
    return dx


@getitem.mistake("wrong-dtype")
def zeros_like_the_index(dout, cache):
    shape, index = cache
    dx = np.zeros(shape, dtype=index.dtype)
    for place in np.ndindex(index.shape):
        dx[index[place]] = dx[index[place]] + dout[place]
    return dx


@getitem.mistake("wrong-dtype")
def collects_in_float32(dout, cache):
    shape, index = cache
    dx = np.zeros(shape, np.float32)
    np.add.at(dx, index, dout.astype(np.float32))
    return dx


@getitem.mistake("ignores-upstream")
def counts_the_picks(dout, cache):
    shape, index = cache
    dx = np.zeros(shape)
    np.add.at(dx, index, 1)
    return dx


@getitem.mistake("wrong-shape")
def returns_the_picked_rows(dout, cache):
    return dout


@getitem.mistake("zero")
def adds_to_a_copy(dout, cache):
    """x[index] with an index array is a copy."""
    shape, index = cache
    dx = np.zeros(shape)
    picked = dx[index]
    picked += dout
    return dx


@getitem.mistake("mutates-input", forward=lambda x, index: (x[index], (x, index)))
def collects_in_x_itself(dout, cache):
    x, index = cache
    x[...] = 0
    np.add.at(x, index, dout)
    return x


@getitem.mistake("unknown")
def averages_repeated_picks(dout, cache):
    shape, index = cache
    dx, times = np.zeros(shape), np.zeros(shape)
    np.add.at(dx, index, dout)
    np.add.at(times, index, 1)
    return dx / np.maximum(times, 1)


@getitem.mistake("not-deterministic", forward=lambda x, index: (x[index], (np.zeros_like(x), index)))
def scatters_into_an_array_of_the_cache(dout, cache):
    dx, index = cache
    np.add.at(dx, index, dout)
    return dx


@getitem.correct()
def scatters_with_add_at(dout, cache):
    shape, index = cache
    dx = np.zeros(shape)
    np.add.at(dx, index, dout)
    return dx


@getitem.correct(forward=rows_only)
def by_one_hot_rows(dout, x, index):
    picks = np.eye(len(x))[index.ravel()]
    return [np.tensordot(picks.T, dout.reshape(index.size, *x.shape[1:]), axes=1)]


@getitem.correct(forward=rows_only)
def adds_in_a_loop_and_none_for_the_index(dout, x, index):
    dx = np.zeros_like(x)
    for place in np.ndindex(index.shape):
        dx[index[place]] += dout[place]
    return dx, None


@getitem.correct()
class Rows(Function):
    integer_inputs = ("index",)

    def forward(self, x, index):
        self.index, self.rows = index % len(x), len(x)
        return x[index]

    def backward(self, dy):
        flat = dy.reshape(self.index.size, -1)
        columns = [np.bincount(self.index.ravel(), weights=c, minlength=self.rows) for c in flat.T]
        return np.stack(columns, axis=1).reshape(self.rows, *dy.shape[self.index.ndim:]), None


@getitem.mistake("overwrites-overlap")
class RowsAssigned(Function):
    integer_inputs = ("index",)

    def forward(self, x, index):
        self.index, self.x = index, x
        return x[index]

    def backward(self, dy):
        dx = np.zeros_like(self.x)
        dx[self.index] = dy
        return dx, None


# getitem with slices

def slice_samples(rng):
    yield (rng.normal(size=(3, 5, 7)),), {"index": (slice(None), slice(1, 4), slice(2, None, 2))}
    yield (rng.normal(size=(6, 4)),), {"index": (slice(1, 5), slice(0, 3))}
    yield (rng.normal(size=(4, 5)),), {"index": (2, slice(1, None))}
    yield (rng.normal(size=(1, 5)),), {"index": (slice(None), slice(3, 0, -1))}


def slice_reference(x, index):
    return np.array(x.tolist())[index]


crop = Operation("getitem_slices", slice_samples, slice_reference, lambda x, index: (x[index], (x.shape, index)))


@crop.mistake("wrong-shape")
def returns_only_the_part(dout, cache):
    return dout


@crop.mistake("zero")
def writes_into_a_copy(dout, cache):
    shape, index = cache
    dx = np.zeros(shape)
    part = dx[index].copy()
    part[...] = dout
    return dx


@crop.mistake("ignores-upstream")
def marks_the_part(dout, cache):
    shape, index = cache
    dx = np.zeros(shape)
    dx[index] = 1
    return dx


@crop.correct()
def writes_into_zeros(dout, cache):
    shape, index = cache
    dx = np.zeros(shape)
    dx[index] = dout
    return dx


@crop.correct()
def moves_by_numbered_places(dout, cache):
    shape, index = cache
    places = np.arange(np.prod(shape)).reshape(shape)[index]
    return np.bincount(places.ravel(), weights=np.ravel(dout), minlength=int(np.prod(shape))).reshape(shape)


# embedding: tokens first, weights second

def embedding_samples(rng):
    yield (rng.integers(0, 6, (3, 5)).clip(1), rng.normal(size=(7, 4))), {}
    yield (np.array([[4, 4, 4], [0, 4, 1]]), rng.normal(size=(5, 2))), {}
    yield (np.array([2, 2, 0, 2]), rng.normal(size=(3, 5))), {}
    yield (np.array([[1, 1]]), rng.normal(size=(2, 3))), {}


def embedding_reference(tokens, W):
    return (tokens[..., None] == np.arange(len(W))) @ W


def embedding_forward(tokens, W):
    return W[tokens], {"tokens": tokens, "W": W}


embedding = Operation("embedding", embedding_samples, embedding_reference, embedding_forward)


@embedding.mistake("overwrites-overlap")
def last_occurrence_wins(dout, cache):
    dW = np.zeros_like(cache["W"])
    dW[cache["tokens"]] = dout
    return dW


@embedding.mistake("overwrites-overlap")
def adds_sentence_by_sentence_with_plus_equals(dout, cache):
    """Within a sentence a repeated token counts once."""
    dW = np.zeros_like(cache["W"])
    for tokens, up in zip(cache["tokens"], dout):
        dW[tokens] += up
    return dW


@embedding.mistake("one-sample-only")
def only_the_last_sentence(dout, cache):
    for tokens, up in zip(cache["tokens"], dout):
        dW = np.zeros_like(cache["W"])
        np.add.at(dW, tokens, up)
    return dW


@embedding.mistake("one-sample-only")
def only_the_first_sentence(dout, cache):
    dW = np.zeros_like(cache["W"])
    np.add.at(dW, cache["tokens"][0], dout[0])
    return dW


@embedding.mistake("scale")
def averages_over_the_batch(dout, cache):
    dW = np.zeros_like(cache["W"])
    np.add.at(dW, cache["tokens"], dout)
    return dW / len(dout)


@embedding.mistake("transposed")
def returns_the_transposed_table(dout, cache):
    one_hot = np.eye(len(cache["W"]))[cache["tokens"]]
    return np.tensordot(dout, one_hot, axes=([*range(one_hot.ndim - 1)],) * 2)


@embedding.mistake("unknown")
def shifts_all_tokens_by_one(dout, cache):
    dW = np.zeros_like(cache["W"])
    np.add.at(dW, cache["tokens"] - 1, dout)
    return dW


@embedding.correct()
def add_at(dout, cache):
    dW = np.zeros_like(cache["W"])
    np.add.at(dW, cache["tokens"], dout)
    return dW


@embedding.correct()
def one_hot_matrix_product(dout, cache):
    tokens, W = cache["tokens"], cache["W"]
    one_hot = np.zeros((tokens.size, len(W)))
    one_hot[np.arange(tokens.size), tokens.ravel()] = 1
    return None, one_hot.T @ dout.reshape(-1, W.shape[1])


@embedding.correct()
class Embedding(Function):
    integer_inputs = ("tokens",)

    def forward(self, tokens, W):
        self.tokens, self.W = tokens, W
        return W[tokens]

    def backward(self, dy):
        return None, sum(np.where(np.arange(len(self.W))[:, None] == self.tokens[i], dy[i], 0.0)
                         for i in np.ndindex(self.tokens.shape))


@embedding.mistake("one-sample-only")
class EmbeddingOfOneSentence(Function):
    integer_inputs = ("tokens",)

    def forward(self, tokens, W):
        self.tokens, self.size = tokens, W.shape
        return W[tokens]

    def backward(self, dy):
        for n in range(len(self.tokens)):
            dW = np.zeros(self.size)
            np.add.at(dW, self.tokens[n], dy[n])
        return None, dW


# take_along_axis over the last axis

def along_samples(rng):
    yield (rng.normal(size=(3, 4, 5)), rng.integers(0, 5, (3, 4, 7))), {}
    yield (rng.normal(size=(4, 6)), rng.integers(0, 3, (4, 5))), {}
    yield (rng.normal(size=(1, 2)), np.array([[1, 1, 0]])), {}


def along_reference(x, index):
    out = np.zeros(index.shape)
    for i in np.ndindex(index.shape):
        out[i] = x[(*i[:-1], index[i])]
    return out


along = Operation("take_along_axis", along_samples, along_reference,
                  lambda x, index: (np.take_along_axis(x, index, -1), (x.shape, index)))


@along.mistake("overwrites-overlap")
def puts_along_the_axis(dout, cache):
    shape, index = cache
    dx = np.zeros(shape)
    np.put_along_axis(dx, index, dout, -1)
    return dx


@along.mistake("unknown")
def forgets_which_row_it_was(dout, cache):
    """Every row gets what was picked from all rows."""
    shape, index = cache
    dx = np.zeros(shape)
    for i in np.ndindex(index.shape):
        dx[..., index[i]] += dout[i]
    return dx


@along.correct()
def adds_one_by_one(dout, cache):
    shape, index = cache
    dx = np.zeros(shape)
    for i in np.ndindex(index.shape):
        dx[(*i[:-1], index[i])] += dout[i]
    return dx


@along.correct()
def sums_over_one_hot_vectors(dout, cache):
    shape, index = cache
    return np.einsum("...k,...kv->...v", dout, np.eye(shape[-1])[index])
