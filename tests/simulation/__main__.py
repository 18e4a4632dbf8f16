"""Run many histories: ``python -m tests.simulation --histories 10000``; ``--seed 17`` reruns one, with its story."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from os import cpu_count

from tests.simulation.loop import WorldLoop
from tests.simulation.world import PROFILES, Mutant, World


def history(seed: int, mutant: Mutant | None = None) -> list[str]:
    """What was wrong in the history of *seed*; the profile is chosen by the seed as well."""
    mutant = mutant or Mutant()
    name = mutant.profiles[seed % len(mutant.profiles)]
    return live(World(seed, PROFILES[name], mutant))


def live(world: World) -> list[str]:
    """Run *world* to its end. Its loop is not wound up: dead nodes leave their tasks behind, as dead processes do."""
    loop = WorldLoop()
    try:
        return loop.run_until_complete(world.run())
    finally:
        loop.close()


def batch(seeds: range) -> list[tuple[int, list[str]]]:
    """The histories of *seeds* that went wrong."""
    return [(seed, wrong) for seed in seeds if (wrong := history(seed))]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__)
    parser.add_argument("--histories", type=int, default=10_000)
    parser.add_argument("--seed", type=int, help="rerun this one alone")
    options = parser.parse_args()
    seeds = range(options.histories) if options.seed is None else range(options.seed, options.seed + 1)
    began = time.monotonic()
    bad: list[tuple[int, list[str]]] = []
    done = 0
    chunks = [seeds[i : i + 20] for i in range(0, len(seeds), 20)]
    with ProcessPoolExecutor(cpu_count() if len(seeds) > 1 else 1) as pool:
        for chunk, found in zip(chunks, pool.map(batch, chunks), strict=True):
            bad += found
            done += len(chunk)
            if sys.stderr.isatty() or done % 1000 == 0 or done == len(seeds):
                end = "\r" if sys.stderr.isatty() and done < len(seeds) else "\n"
                print(f"{done} of {len(seeds)} histories, {len(bad)} bad", end=end, file=sys.stderr, flush=True)
    for seed, wrong in bad[:20]:
        print(f"\nseed {seed} (rerun: make sim SEED={seed})")
        for line in wrong[:10]:
            print(f"  {line}")
    print(f"{len(seeds) - len(bad)} passed, {len(bad)} failed")
    print(f"took {time.monotonic() - began:.1f} s", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
