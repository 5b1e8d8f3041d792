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
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from benchmarks.pretraining_runs import run_pretraining
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

_TARGETS = {"": "", "taught_": " with a teacher", "labelled_": " with all labels"}


def run_all(
    plan: Plan,
    backbones: Sequence[str],
    settings: Sequence[Labels],
    methods: Sequence[str],
    *,
    seeds: int,
    pretrainings: int,
    jobs: int,
) -> list[Result]:
    """Trains everything that has no result yet, and gives all results.

    Args:
        plan: Data and sizes.
        backbones: Names in the preset.
        settings: Which labels may be used.
        methods: Some of ``METHODS``.
        seeds: Runs of everything but pre-trainings.
        pretrainings: Pre-trainings of each backbone; seed i starts from number i modulo this.
        jobs: Processes at a time.
    """
    if any(is_taught(method) for method in methods):
        plan.cache_teacher()
    runs = [
        run
        for seed in range(seeds)  # first, so that an interrupted benchmark has all settings at fewer seeds
        for backbone in backbones
        for labels in settings
        for method in methods
        for run in plan.transfers(backbone, labels, method, seed, seed % pretrainings)
    ]
    order = _with_starts(runs)
    waiting = list(order)
    results: dict[Run, Result] = {}
    running: dict[concurrent.futures.Future[Result], Run] = {}
    with (
        concurrent.futures.ThreadPoolExecutor(jobs) as pool,
        tqdm(desc="Transfer", total=len(order), unit="run") as bar,
    ):
        while waiting or running:
            ready = [run for run in waiting if run.start is None or run.start in results]
            for run in ready[: jobs - len(running)]:
                waiting.remove(run)
                running[pool.submit(_result, plan, run)] = run
            done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            for future in done:
                results[running.pop(future)] = future.result()  # where one failed, what runs ends and no other begins
                bar.update()
    return [results[run] for run in order]


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


def report(plan: Plan, results: Sequence[Result]) -> str:
    """Writes ``results.json``, ``table.md`` and ``plot.png`` into the benchmark's folder and gives the text."""
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
    write_text(plan.folder / "results.json", json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n")
    write_text(plan.folder / "table.md", text + "\n")
    try:
        plot(rows, plan.folder / "plot.png")
    except ImportError:
        text += "\n\nThere is no plot: matplotlib is not installed (pip install matplotlib)."
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints its table."""
    options = _parse(arguments)
    plan = Plan(options.folder, PRESETS[options.preset], options.data_root)
    settings = label_settings(options.fractions, options.points)
    results = run_all(
        plan,
        options.backbones,
        settings,
        options.methods,
        seeds=options.seeds,
        pretrainings=options.pretrainings or options.seeds,
        jobs=options.jobs,
    )
    print(report(plan, results))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="small", help="small: a CPU; full: a GPU (default small)")
    parser.add_argument("--folder", type=Path, help="runs and rooms; results are reused (default exp/transfer/PRESET)")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="own scenes with frames instead of rooms")
    parser.add_argument("--backbones", nargs="+", choices=("spunet", "ptv3"), default=("spunet", "ptv3"))
    parser.add_argument(
        "--fractions", nargs="*", type=float, default=(1, 5, 10, 20, 100), metavar="PERCENT", help="of the scenes"
    )
    parser.add_argument("--points", nargs="*", type=int, default=(20, 50, 200), metavar="N", help="labelled per scene")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS[:4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pretrainings", type=int, metavar="N", help="of each backbone (default: one for each seed)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default 1)")
    options = parser.parse_args(arguments)
    options.folder = options.folder or Path("exp/transfer") / options.preset
    return options


if __name__ == "__main__":
    main()
