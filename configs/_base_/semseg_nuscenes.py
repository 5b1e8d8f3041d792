# nuScenes lidarseg, 16 classes: the data, training pipeline and final evaluation that Pointcept publishes.
from pointcept.config.blocks import scaled_variants, sweep_transforms, usual_hooks

_base_ = ["./semseg_benchmark.py"]

_grid_size = 0.05
_transforms = sweep_transforms(_grid_size, ("coord", "strength"))
_sweeps = dict(type="NuScenesDataset", data_root="data/nuscenes")
data = dict(
    train=dict(**_sweeps, split="train", transform=_transforms["train"]),
    val=dict(**_sweeps, split="val", transform=_transforms["val"]),
    test=dict(**_sweeps, split="val"),
)

_evaluator = dict(type="SemSegEvaluator", num_classes=16, class_names="nuscenes")
test = dict(
    evaluator=_evaluator,
    inference=dict(grid_size=_grid_size, aug_transform=scaled_variants(), post_transform=_transforms["fragment"]),
)
hooks = usual_hooks(_evaluator, save_every_minutes=10.0)

epoch = 50
eval_epoch = 50
