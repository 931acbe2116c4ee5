"""Changes of CUDA kernels that change nothing an operation promises: why no rung can notice them.

Written as (file and function, line of source, why, changes); `EQUIVALENT` holds one entry per change. An entry whose line has
been rewritten, or whose change is noticed by now, is stale, and plant_cuda_bugs.py says so.
"""

EXPLAINED: list[tuple[str, str, str, list[str]]] = [
    ("max_pool2d.max_pool", "long long place = -1;", "any negative number says that there is no place yet", ["1 -> 2"]),
    ("batch_norm.statistics",
     "if (threadIdx.x == 0) {",
     "all threads hold the same results, and there is a second one: batch norm refuses a single value per channel",
     ["0 -> 1"]),
]

EQUIVALENT: dict[tuple[str, str, str], str] = {
    (place, line, change): why for place, line, why, changes in EXPLAINED for change in changes}
