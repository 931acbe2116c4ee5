"""A thousand seeds for every correct solution of the corpus: is one ever refused?

    python tests/checking/seeds.py [SEEDS] [PART/PARTS]

At each seed one sample of the operation, the next one at the next seed. Prints what was refused, and the count.
Takes about half an hour for 1000 seeds; PART/PARTS splits the entries over processes (0/2 and 1/2).
"""
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import test_corpus as corpus


def main(seeds: int, part: int, parts: int) -> int:
    """Checks; returns the number of refusals."""
    refused, started = 0, time.monotonic()
    mine = corpus.CORRECT[part::parts]
    for n, case in enumerate(mine):
        for seed in range(seeds):
            report = corpus.judged(case, seed, corpus.one_sample(case, seed))
            if not report.ok:
                refused += 1
                print(f"REFUSED {case} at seed {seed}:\n{report.text}", flush=True)
        if n % 20 == 19:
            print(f"{n + 1} of {len(mine)} solutions, {time.monotonic() - started:.0f} s", flush=True)
    print(f"{len(mine)} correct solutions, {seeds} seeds each: {refused} refused, {time.monotonic() - started:.0f} s")
    return refused


if __name__ == "__main__":
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else corpus.SEEDS
    part, parts = map(int, sys.argv[2].split("/")) if len(sys.argv) > 2 else (0, 1)
    sys.exit(1 if main(seeds, part, parts) else 0)
