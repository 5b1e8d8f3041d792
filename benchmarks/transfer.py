"""What rendering pre-training is worth: backbones from scratch and pre-trained, at few and many labels, over seeds.

Pre-trains without labels on rooms, then trains for semantic segmentation: from scratch (at several lengths, which shows
where more does not help), as linear probes of the pre-trained and of a random frozen backbone, and of everything from
the pre-trained backbone and its probe. Every run is a process of its own with a ``result.json``; runs whose result is
there are not repeated, so a benchmark that was interrupted goes on.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.pretraining_runs import RESULT, run_pretraining
from benchmarks.transfer_plan import (
    METHODS,
    PRESETS,
    Labels,
    Plan,
    Run,
    is_taught,
    label_settings,
)
from benchmarks.transfer_report import Result, plot, summarize, table
from pointcept.utils.files import write_text

_SIZED = ("fractions", "points", "pretrainings", "jobs", "hours")  # options whose defaults are the preset's
_TARGETS = {"": "", "taught_": " with a teacher", "labelled_": " with all labels"}


def planned(
    plan: Plan,
    backbones: Sequence[str],
    settings: Sequence[Labels],
    methods: Sequence[str],
    *,
    seeds: int,
    pretrainings: int,
) -> list[Run]:
    """All runs, each after those that it starts from.

    Args:
        plan: Data and sizes.
        backbones: Names in the preset.
        settings: Which labels may be used.
        methods: Some of ``METHODS``.
        seeds: Runs of everything but pre-trainings.
        pretrainings: Pre-trainings of each backbone; seed i starts from number i modulo this.
    """
    return _with_starts(
        [
            run
            for seed in range(seeds)  # first, so that an interrupted benchmark has all settings at fewer seeds
            for backbone in backbones
            for labels in settings
            for method in methods
            for run in plan.transfers(backbone, labels, method, seed, seed % pretrainings)
        ]
    )


def run_all(plan: Plan, runs: Sequence[Run], *, jobs: int, end: float = math.inf) -> list[Result]:
    """Trains what has no result yet, and gives the results of all runs that have one then.

    Args:
        plan: Data and sizes.
        runs: What to train, each run after those that it starts from.
        jobs: Processes at a time.
        end: When all should have ended, on the clock of ``time.monotonic``. A run is begun only if as long as others of
            its kind took is left; the first of a kind as long as anything is left.
    """
    if any(is_taught(run.method) for run in runs):
        plan.cache_teacher()
    waiting = list(runs)
    results: dict[Run, Result] = {}
    running: dict[concurrent.futures.Future[Result], tuple[Run, float]] = {}  # with the time of its beginning
    durations: dict[tuple[str, str], float] = {}  # seconds, of the preset's length
    with (
        concurrent.futures.ThreadPoolExecutor(jobs) as pool,
        tqdm(desc="Transfer", total=len(runs), unit="run") as bar,
    ):
        while True:
            for run in [run for run in waiting if run.start is None or run.start in results]:
                if len(running) == jobs:
                    break
                waiting.remove(run)
                now, expected = time.monotonic(), run.length * durations.get(_kind(run), 0.0)
                if now + expected < end or (plan.folder / run.folder / RESULT).is_file():
                    running[pool.submit(_result, plan, run)] = run, now
            if not running:  # all is done, or there was no time for what the others start from
                break
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                run, begun = running.pop(future)
                results[run] = future.result()  # where one failed, what runs ends and no other begins
                elapsed = time.monotonic() - begun  # next to nothing for a run that was done before
                seconds = max(results[run].figures["seconds"], elapsed)
                durations[_kind(run)] = max(durations.get(_kind(run), 0.0), seconds / run.length)
                bar.update()
    return [results[run] for run in runs if run in results]


def _kind(run: Run) -> tuple[str, str]:
    """Runs of one kind take as long as each other at the same length."""
    stage = next((stage for stage in ("pretraining", "probe") if run.method.endswith(stage)), "all parameters")
    return run.backbone, stage


def _with_starts(runs: Sequence[Run]) -> list[Run]:
    """The runs, each after those that it starts from, and pre-trainings before all else."""
    chains = []
    for run in runs:
        chain = [run]
        while chain[0].start is not None:
            chain.insert(0, chain[0].start)
        chains.append(chain)
    pretrainings = [chain[0] for chain in chains if len(chain) > 1]
    return list(dict.fromkeys([*pretrainings, *(run for chain in chains for run in chain)]))


def _result(plan: Plan, run: Run) -> Result:
    figures = run_pretraining(run.config, run.overrides, plan.folder / run.folder, run.seed)
    return Result(run.backbone, run.labels, run.method, run.length, run.seed, figures)


def report(plan: Plan, results: Sequence[Result], num_runs: int) -> str:
    """Writes ``results.json``, ``table.md`` and ``plot.png`` into the benchmark's folder and gives the text.

    Args:
        plan: Data and sizes.
        results: What was found.
        num_runs: How many runs were planned.
    """
    lines = []
    for result in results:
        if result.method.endswith("pretraining"):
            found, kind = result.figures, result.method.removesuffix("pretraining")
            lines.append(
                f"Pre-training {result.backbone}{_TARGETS[kind]}, seed {result.seed}: "
                f"{plan.rays(found['steps']):,} rays, {found['steps']} steps, {found['seconds']:.0f} s; "
                f"PSNR {found['psnr']:.2f} dB, depth abs. rel. {found['abs_rel']:.3f} on views of held-out rooms."
            )
    rows = summarize(results)
    text = "\n".join([*lines, "", table(rows)])
    if len(results) < num_runs:
        text += (
            f"\n\n{num_runs - len(results)} of {num_runs} runs are missing, for which there was no time. The same "
            "command goes on with them."
        )
    write_text(plan.folder / "results.json", json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n")
    write_text(plan.folder / "table.md", text + "\n")
    if not rows:
        return text
    try:
        plot(rows, plan.folder / "plot.png")
    except ImportError:
        text += "\n\nThere is no plot: matplotlib is not installed (pip install matplotlib)."
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints its table."""
    begin = time.monotonic()
    options = _parse(arguments)
    plan = Plan(options.folder, PRESETS[options.preset], options.data_root)
    settings = label_settings(options.fractions, options.points)
    runs = planned(
        plan, options.backbones, settings, options.methods, seeds=options.seeds, pretrainings=options.pretrainings
    )
    results = run_all(plan, runs, jobs=options.jobs, end=begin + 3600 * options.hours)
    print(report(plan, results, len(runs)))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="small", help="small: a CPU; full: a GPU (default small)")
    parser.add_argument("--folder", type=Path, help="runs and rooms; results are reused (default exp/transfer/PRESET)")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="own scenes with frames instead of rooms")
    parser.add_argument("--backbones", nargs="+", choices=("spunet", "ptv3"), default=("spunet", "ptv3"))
    parser.add_argument(
        "--fractions", nargs="*", type=float, metavar="PERCENT", help=f"of the scenes ({_defaults('fractions')})"
    )
    parser.add_argument(
        "--points", nargs="*", type=int, metavar="N", help=f"labelled per scene ({_defaults('points')})"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS[:4])
    parser.add_argument("--seeds", type=int, default=3, help="default 3")
    parser.add_argument("--pretrainings", type=int, metavar="N", help=f"of each backbone ({_defaults('pretrainings')})")
    parser.add_argument("--jobs", type=int, metavar="N", help=f"runs at a time ({_defaults('jobs')})")
    parser.add_argument(
        "--hours",
        type=float,
        help=f"begin no run that would end later; the table says what is missing ({_defaults('hours')})",
    )
    options = parser.parse_args(arguments)
    options.folder = options.folder or Path("exp/transfer") / options.preset
    for name in _SIZED:
        if getattr(options, name) is None:
            setattr(options, name, getattr(PRESETS[options.preset], name))
    options.pretrainings = options.pretrainings or options.seeds
    for name in ("seeds", "pretrainings", "jobs", "hours"):
        if getattr(options, name) <= 0:
            parser.error(f"--{name} must be above 0: got {getattr(options, name):g}.")
    if not options.fractions and not options.points:
        parser.error("nothing is labelled: give --fractions, --points, or both at least one value.")
    return options


def _defaults(option: str) -> str:
    """The defaults of an option, for its help text."""
    shown = []
    for name, preset in PRESETS.items():
        value = getattr(preset, option)
        if isinstance(value, tuple):
            value = " ".join(map(str, value)) or "none"
        shown.append(f"{name} {'one for each seed' if value is None else value}")
    return f"default: {', '.join(shown)}"


if __name__ == "__main__":
    main()
