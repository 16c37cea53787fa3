"""Try faults on a tiny project and write what came of it to a CSV file and to docs/faults.md.

Every trial is kept as soon as it has ended, so that a run that is stopped goes on where it was: what is there
for the present code is not tried again. Repetitions come in turns, so that the table grows evenly.
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run trials; returns 1 if one ended wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=25, help="of faults in single steps (default: 25)")
    parser.add_argument("--commands", type=int, default=6, help="of faults in whole commands (default: 6)")
    parser.add_argument("--only", nargs="*", help="those that begin so, as `fault, case`")
    parser.add_argument("--folder", type=Path, default=HERE.parent / ".work" / "crash", help="to work in")
    parser.add_argument(
        "--out", type=Path, default=HERE / "results" / "trials.csv", help="CSV file of the trials"
    )
    parser.add_argument(
        "--docs", type=Path, help="page whose table is written anew (default: docs/faults.md)"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no trial after this time")
    options = parser.parse_args(arguments)
    # what a shell starts in the background ignores Ctrl-C, and so would every command tried
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # here, since processes that render import this file as well
    from laboratory import Laboratory
    from table import Record, read, write_docs
    from trials import Outcome, Skipped, Verdict

    start = time.monotonic()
    laboratory = Laboratory(options.folder)
    print(f"the finished project is at {laboratory.reference} ({time.monotonic() - start:.0f} s)", flush=True)
    record = Record(options.out, laboratory.code)
    for trial in sorted(_all(laboratory, options), key=lambda trial: trial.number):
        name = f"{trial.fault}, {trial.case}"
        if trial.key in record.done or not name.startswith(tuple(options.only or [""])):
            continue
        if time.monotonic() - start > options.seconds:
            print("time is up; the same command goes on from here", flush=True)
            break
        before = time.monotonic()
        try:
            outcome = trial.run(laboratory, trial.seed())
        except Skipped as reason:
            print(f"skipped   {name}: {reason}", flush=True)
            continue
        except Exception as error:  # the harness's own fault counts as a failure, not as a pass
            outcome = Outcome(Verdict.WRONG, f"the trial itself failed: {type(error).__name__}: {error}")
        seconds = time.monotonic() - before
        record.add(trial, outcome, seconds)
        print(f"{outcome.verdict:9} {name}, {trial.number} ({seconds:.1f} s): {outcome.detail}", flush=True)
    trials = read(options.out)
    write_docs(options.docs or HERE.parent / "docs" / "faults.md", trials)
    own = trials[trials["code"] == laboratory.code]
    wrong = own[own["verdict"] == Verdict.WRONG]
    print(f"{len(own)} trials, {len(wrong)} of them wrong")
    return 1 if len(wrong) else 0


def _all(laboratory, options):
    import damaged
    import interrupted
    import killed
    import no_room
    import not_finite
    import out_of_memory
    import twice
    import workers

    repeats, commands = options.repeats, options.commands
    few = max(1, repeats // 5) if repeats else 0
    yield from killed.trials(laboratory, repeats, commands)
    yield from workers.trials(few, commands)
    yield from damaged.trials(laboratory, few)
    yield from no_room.trials(laboratory, few)
    yield from twice.trials(laboratory, few, commands)
    yield from not_finite.trials(laboratory, few)
    yield from out_of_memory.trials(laboratory, few)
    yield from interrupted.trials(laboratory, few, min(commands, 2))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent / "src"))
    sys.exit(main())
