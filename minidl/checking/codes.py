"""The causes that a report may name: what each code means, and the line of a gradient to compare with one's own."""

CODES: dict[str, tuple[str, str]] = {
    "zero": (
        "nothing arrives: the gradient, or all that is wrong in it, is exactly 0, or None",
        "d{x} = (slope of out for {x}) * dout, summed over all outputs that {x} acts on"),
    "sign": (
        "right but for a factor -1, of the whole gradient or of one of its terms",
        "look for a minus: of a difference, a quotient, the logarithm in a loss, a path through a mean"),
    "scale": (
        "right but for a constant factor, of the whole gradient or of one of its terms: 2, the batch, the window, an option",
        "compare sums with means, and every constant, in the line of d{x}"),
    "ignores-upstream": (
        "dout is not used, or a term is not multiplied by it",
        "d{x} = dout * (local slope): every term carries dout"),
    "broadcast-not-summed": (
        "an input that forward broadcast gets a gradient that is not summed over all the axes along which it was used",
        "d{x} = dout.sum over the axes along which {x} was broadcast"),
    "transposed": (
        "the right numbers with axes exchanged: a matrix that is not transposed, a reshape where a transpose is needed",
        "y = x @ w has dx = dout @ w.T and dw = x.T @ dout; reshape keeps the order of memory, transpose does not"),
    "flipped": (
        "mirrored: a kernel not turned by 180 degrees where it must be, or turned where it must not",
        "dx is dout, padded, convolved with w turned by 180 degrees; dw is x correlated with dout, nothing turned"),
    "overwrites-overlap": (
        "= where += is needed: what acts on several outputs receives one share of many",
        "d{x}[...] += the share of each output: = forgets the others (and so does += with repeated indices: np.add.at adds)"),
    "border": (
        "right inside, wrong at the edges: padding not cut, or cut at the wrong place; windows at the edge; a remainder",
        "d{x} = padded gradient[..., P:P + H, P:P + W]; look at windows that reach over the edge, and at what none covers"),
    "missing-statistics-path": (
        "out also depends on the input through a mean, variance, norm or sum, and that path is missing",
        "y = x * s(x): the product rule has two terms, dout * s and, through s, a sum over all that s was computed from"),
    "ties": (
        "at equal maxima dout goes to every one of them, or to none",
        "of equal maxima one gets all of dout, or they share it; the sum is dout"),
    "one-sample-only": (
        "only one sample of the batch contributes to the gradient, or receives one",
        "d{x} = sum over the samples of what each contributes: += in a loop over them, not ="),
    "forward-differs": (
        "forward does not compute what the reference does",
        "mend forward first: the gradient is that of what forward computes"),
    "mutates-input": (
        "forward or backward writes into an input or into dout",
        "x = x.copy() before the first x[...] =, x += or out=x"),
    "not-deterministic": (
        "two calls give different results, also a second backward on the same cache",
        "draw random numbers in forward, from a seed that is given; save them in the cache; never change the cache"),
    "wrong-shape": (
        "the shape or the number of the gradients is wrong, and nothing more special is known",
        "d{x}.shape == {x}.shape; one gradient for each input, in the order of the inputs"),
    "wrong-dtype": (
        "float32 or integers where float64 arrived",
        "np.zeros_like(x), not np.zeros(shape, int); no .astype inside"),
    "unknown": (
        "wrong, and no known pattern fits: a wrong formula",
        "work d{x} out again for a single element, by hand"),
}
