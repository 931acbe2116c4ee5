"""Changes of CUDA kernels that change nothing an operation promises: why no rung can notice them.

Written as (file and function, line of source, why, changes); `EQUIVALENT` holds one entry per change. An entry whose line has
been rewritten, or whose change is noticed by now, is stale, and plant_cuda_bugs.py says so.
"""

FURTHER_WINDOWS = "looks at further windows, but their largest elements lie elsewhere: only the time grows"
NAN_ANYWAY = "the only caller adds up e**(x - largest) afterwards, which is NaN for a row with NaN, whatever the largest is"

EXPLAINED: list[tuple[str, str, str, list[str]]] = [
    ("cuda.block_max",
     "if (other > shared[threadIdx.x] || other != other) shared[threadIdx.x] = other;",
     "puts a number in the place of an equal one",
     ["> -> >="]),
    ("cuda.block_max", "if (other > shared[threadIdx.x] || other != other) shared[threadIdx.x] = other;", NAN_ANYWAY,
     ["|| -> || false &&"]),
    ("relu.relu", "FOR_EACH(i, size) y[i] = x[i] < 0 ? 0 : x[i];", "x = 0 and the constant are both 0", ["< -> <="]),
    ("max_pool2d.max_pool", "long long place = -1;", "any negative number says that there is no place yet", ["1 -> 2"]),
    ("max_pool2d.max_pool_gradient",
     "long long first_i = h < KH ? 0 : (h - KH) / SH + 1, last_i = min(h / SH, OH - 1);",
     FURTHER_WINDOWS,
     ["< -> <=", "? -> || true ?", "/ -> * (2)"]),
    ("max_pool2d.max_pool_gradient",
     "long long first_j = v < KW ? 0 : (v - KW) / SW + 1, last_j = min(v / SW, OW - 1);",
     FURTHER_WINDOWS,
     ["< -> <=", "? -> || true ?", "/ -> * (2)"]),
    ("batch_norm.statistics",
     "if (threadIdx.x == 0) {",
     "all threads hold the same results, and there is a second one: batch norm refuses a single value per channel",
     ["0 -> 1"]),
]

EQUIVALENT: dict[tuple[str, str, str], str] = {
    (place, line, change): why for place, line, why, changes in EXPLAINED for change in changes}
