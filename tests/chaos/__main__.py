"""`python -m tests.chaos --seconds 300 --seed 7`: a chaos run and its report; exit 1 if anything is lost or doubled."""

from __future__ import annotations

import argparse
import random
import sys

from tests.chaos.faults import ALL_KINDS
from tests.chaos.mutants import MUTANTS
from tests.chaos.run import Plan, default_kinds, run_once
from tests.support.redis_server import redis_kinds


def main() -> int:
    """Run as the command line says. -> 0 everything once, 1 not"""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="how long faults are made (default 300)")
    parser.add_argument("--seed", type=int, help="which faults and messages; default: a random one, printed")
    parser.add_argument("--consumers", type=int, default=4)
    parser.add_argument(
        "--only", nargs="+", choices=sorted(ALL_KINDS), metavar="KIND", help=f"of {', '.join(ALL_KINDS)}"
    )
    versions = [kind.short for kind in redis_kinds()]
    parser.add_argument("--redis", choices=versions, help=f"which version (default {versions[0]})")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="a consumer with a known mistake, to test the oracle")
    parser.add_argument("--dispatch", action="store_true", help="with storage dispatch: RabbitMQ and a storage worker")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    only = tuple(given.only or default_kinds(given.dispatch))
    plan = Plan(seed, given.seconds, given.consumers, only, given.mutant, redis=given.redis, dispatch=given.dispatch)
    print(f"seed {seed}; the same faults again: {plan.command()}", flush=True)
    report = run_once(plan)
    print(report)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
