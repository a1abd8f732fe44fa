"""The entry point of a Ray job.

    ray job submit --working-dir . -- python jobs/run.py CONFIG [--stage NAME] [key=value ...]

The same road as `raysae run`, on the cluster the job was submitted to. Give `out=` a folder that every node sees.
"""

import argparse
import sys
from pathlib import Path

from raysae.errors import RaysaeError
from raysae.pipeline import STAGES, exit_status, run
from raysae.stages.progress import Reporter
from raysae.types.loading import load


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--stage", choices=STAGES, default="report", help="stop after this stage")
    parser.add_argument("--gate", action="store_true", help="exit 3 for NO_GO and 4 for INCONCLUSIVE")
    arguments = parser.parse_args()
    reporter = Reporter()
    try:
        verdict = run(load(arguments.config, arguments.overrides), reporter, arguments.stage)
    except RaysaeError as error:
        sys.stderr.write(f"raysae: {error}\n")
        return error.status
    if verdict is not None:
        for name, row in verdict.criteria.items():
            reporter.line(f"{name}: {row.outcome} {row.reason_code or ''} {row.reason}")
        reporter.line(f"verdict {verdict.outcome} ({verdict.mode})")
    return exit_status(verdict) if arguments.gate and verdict is not None else 0


if __name__ == "__main__":
    sys.exit(main())
