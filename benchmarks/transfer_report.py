"""What the transfer benchmark found: one table and one plot, with mean and spread over seeds."""

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

TITLES = {
    "scratch": "from scratch",
    "pretrained": "pre-trained, fine-tuned",
    "random_probe": "random, linear probe",
    "pretrained_probe": "pre-trained, linear probe",
    "taught": "pre-trained with a teacher, fine-tuned",
    "taught_probe": "pre-trained with a teacher, linear probe",
    "labelled": "pre-trained with all labels, fine-tuned",
    "labelled_probe": "pre-trained with all labels, linear probe",
}
_REFERENCES = {
    "pretrained": "scratch",
    "pretrained_probe": "random_probe",
    "taught": "scratch",
    "taught_probe": "random_probe",
    "labelled": "scratch",
    "labelled_probe": "random_probe",
}
_COLORS = {
    "scratch": "tab:gray",
    "pretrained": "tab:blue",
    "random_probe": "silver",
    "pretrained_probe": "tab:cyan",
    "taught": "tab:red",
    "taught_probe": "tab:orange",
    "labelled": "tab:green",
    "labelled_probe": "tab:olive",
}


@dataclasses.dataclass(frozen=True)
class Result:
    """One finished run.

    Attributes:
        backbone: Its name.
        labels: Name of the setting of labels.
        method: One of ``METHODS``, or a pre-training.
        length: Steps, times those of the preset.
        seed: Its seed.
        figures: ``mIoU`` (0..1), ``steps``, ``seconds`` and others.
    """

    backbone: str
    labels: str
    method: str
    length: float
    seed: int
    figures: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Row:
    """The mean over seeds of one method in one setting.

    Attributes:
        backbone: Its name.
        labels: Name of the setting of labels.
        method: One of ``METHODS``.
        length: Steps, times those of the preset.
        steps: Optimizer steps.
        miou: Mean of the mIoU, per cent.
        spread: Standard deviation of the mIoU over seeds (of the sample), points; 0 for one seed.
        seconds: Mean time of a run.
        is_converged: Whether the next longer training is not better by more than the spread; None where there is none.
        by_seed: The mIoU of each seed, per cent.
    """

    backbone: str
    labels: str
    method: str
    length: float
    steps: float
    miou: float
    spread: float
    seconds: float
    is_converged: bool | None
    by_seed: Mapping[int, float]

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        return len(self.by_seed)

    def gain_over(self, reference: "Row") -> tuple[float, float | None]:
        """Mean and spread of the gain over another row, seed by seed, points; no spread for one seed.

        Runs of one seed see the same scenes in the same order with the same augmentations; what that does to both
        alike cancels. Over the seeds that both rows have, of which there must be one.
        """
        gains = [self.by_seed[seed] - reference.by_seed[seed] for seed in self.by_seed if seed in reference.by_seed]
        return statistics.fmean(gains), statistics.stdev(gains) if len(gains) > 1 else None


def summarize(results: Iterable[Result]) -> list[Row]:
    """One row for each backbone, setting, method and length, in the order in which they came first."""
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        if not result.method.endswith("pretraining"):
            key = (result.backbone, result.labels, result.method, result.length)
            groups.setdefault(key, []).append(result)
    rows = []
    for key, found in groups.items():
        by_seed = {result.seed: 100 * result.figures["mIoU"] for result in found}
        spread = statistics.stdev(by_seed.values()) if len(by_seed) > 1 else 0.0
        steps, seconds = (statistics.fmean(r.figures[name] for r in found) for name in ("steps", "seconds"))
        rows.append(Row(*key, steps, statistics.fmean(by_seed.values()), spread, seconds, None, by_seed))
    return [dataclasses.replace(row, is_converged=_converged(row, rows)) for row in rows]


def _converged(row: Row, rows: Sequence[Row]) -> bool | None:
    same = [r for r in rows if (r.backbone, r.labels, r.method) == (row.backbone, row.labels, row.method)]
    longer = [r for r in same if r.length > row.length]
    if not longer:
        return None
    next_longer = min(longer, key=lambda r: r.length)
    return next_longer.miou - row.miou <= max(row.spread, next_longer.spread)


def best(rows: Iterable[Row], backbone: str, labels: str, method: str) -> Row | None:
    """The best of a method's rows, whatever its length; None where there is none."""
    found = [r for r in rows if (r.backbone, r.labels, r.method) == (backbone, labels, method)]
    return max(found, key=lambda row: row.miou, default=None)


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table; gains are over the best training from scratch, or the random frozen backbone.

    Their spread is that of the gains of the seeds, each over the reference of the same seed.
    """
    lines = [
        "| backbone | labels | method | steps | mIoU (mean ± spread) | gain by seed | converged | seeds | seconds |",
        "|---|---|---|---:|---:|---:|---|---:|---:|",
    ]
    for row in rows:
        compared = _REFERENCES.get(row.method)
        reference = None if compared is None else best(rows, row.backbone, row.labels, compared)
        gain = "" if reference is None else _gain(row, reference)
        converged = {None: "", True: "yes", False: "no"}[row.is_converged]
        lines.append(
            f"| {row.backbone} | {row.labels} | {TITLES[row.method]} | {row.steps:.0f} | {row.miou:.1f} ± "
            f"{row.spread:.1f} | {gain} | {converged} | {row.seeds} | {row.seconds:.0f} |"
        )
    return "\n".join(lines)


def _gain(row: Row, reference: Row) -> str:
    if row.by_seed.keys().isdisjoint(reference.by_seed):
        return ""
    mean, spread = row.gain_over(reference)
    return f"{mean:+.1f}" if spread is None else f"{mean:+.1f} ± {spread:.1f}"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draws the mean with its spread over the settings of labels, one panel for each backbone.

    Of several lengths the best is drawn.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    backbones = list(dict.fromkeys(row.backbone for row in rows))
    labels = list(dict.fromkeys(row.labels for row in rows))
    methods = [method for method in TITLES if any(row.method == method for row in rows)]
    figure, axes = pyplot.subplots(1, len(backbones), figsize=(5.5 * len(backbones), 4), squeeze=False, sharey=True)
    for axis, backbone in zip(axes[0], backbones, strict=True):
        for offset, method in enumerate(methods):
            found = [best(rows, backbone, label, method) for label in labels]
            place = [i + 0.06 * (offset - (len(methods) - 1) / 2) for i, row in enumerate(found) if row is not None]
            found = [row for row in found if row is not None]
            if found:
                mean, spread = [row.miou for row in found], [row.spread for row in found]
                axis.errorbar(place, mean, spread, marker="o", capsize=3, label=TITLES[method], color=_COLORS[method])
        axis.set_xticks(range(len(labels)), labels)
        axis.set_xlim(-0.5, len(labels) - 0.5)
        axis.set_xlabel("labelled scenes, or labelled points of every scene")
        axis.set_title(backbone)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("mIoU of the validation rooms, %")
    axes[0][0].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
