"""The entry point of a Ray job.

    ray job submit --working-dir . -- python jobs/run.py CONFIG [--stage NAME] [--override REASON] [key=value ...]

The same road as `raysae run`, on the cluster the job was submitted to. Give `out=` a folder that every node sees, or s3://bucket/runs.
"""

import argparse
import sys
from pathlib import Path

from raysae.errors import RaysaeError
from raysae.pipeline import CAPTURE_STAGES, STAGES, exit_status, walk
from raysae.stages.progress import Reporter
from raysae.types import Verdict
from raysae.types.loading import load_phases


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument(
        "--stage", choices=dict.fromkeys((*CAPTURE_STAGES, *STAGES)), default="report", help="stop after this stage"
    )
    parser.add_argument("--gate", action="store_true", help="exit 3 for NO_GO and 4 for INCONCLUSIVE")
    parser.add_argument("--override", help="why a phase starts without a GO of the one before")
    arguments = parser.parse_args()
    reporter, verdicts = Reporter(), list[Verdict]()
    try:
        experiments = load_phases(arguments.config, arguments.overrides)
        for _, verdict in walk(experiments, reporter, arguments.stage, arguments.override):
            if verdict is not None:
                verdicts.append(verdict)
                _print(verdict, reporter)
    except RaysaeError as error:
        sys.stderr.write(f"raysae: {error}\n")
        return error.status
    return exit_status(verdicts) if arguments.gate else 0


def _print(verdict: Verdict, reporter: Reporter) -> None:
    for name, row in verdict.criteria.items():
        reporter.line(f"{name}: {row.outcome} {row.reason_code or ''} {row.reason}")
    reporter.line(f"verdict {verdict.outcome} ({verdict.mode})")
    for reason in verdict.overrides:
        reporter.line(f"started without the gate, {reason}")


if __name__ == "__main__":
    sys.exit(main())
