# ScanNet, 20 classes: the data, training pipeline and final evaluation that Pointcept publishes.
from pointcept.config.blocks import scene_transforms, turned_variants, usual_hooks

_base_ = ["./semseg_benchmark.py"]

_grid_size = 0.02
_transforms = scene_transforms(_grid_size, ("color", "normal"), crops=[dict(point_max=102400)], elastic=True)
_scenes = dict(type="ScanNetDataset", data_root="data/scannet")
data = dict(
    train=dict(**_scenes, split="train", transform=_transforms["train"]),
    val=dict(**_scenes, split="val", transform=_transforms["val"]),
    test=dict(**_scenes, split="val", transform=_transforms["test"]),
)

_evaluator = dict(type="SemSegEvaluator", num_classes=20, class_names="scannet20")
test = dict(
    evaluator=_evaluator,
    inference=dict(grid_size=_grid_size, aug_transform=turned_variants(), post_transform=_transforms["fragment"]),
)
hooks = usual_hooks(_evaluator, save_every_minutes=10.0)

mix_prob = 0.8
