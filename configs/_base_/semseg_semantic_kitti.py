# SemanticKITTI, 19 classes: the data, training pipeline and final evaluation that Pointcept publishes.
from pointcept.config.blocks import sweep_transforms, usual_hooks

_base_ = ["./semseg_nuscenes.py"]

_transforms = sweep_transforms(0.05, ("coord", "strength"), clip_range=(-35.2, -35.2, -4, 35.2, 35.2, 2))
_sweeps = dict(type="SemanticKITTIDataset", data_root="data/semantic_kitti")
data = dict(
    train=dict(**_sweeps, transform=_transforms["train"]),
    val=dict(**_sweeps, transform=_transforms["val"]),
    test=dict(**_sweeps, transform=_transforms["test"]),
)

_evaluator = dict(type="SemSegEvaluator", num_classes=19, class_names="semantic_kitti")
test = dict(evaluator=_evaluator)
hooks = usual_hooks(_evaluator, save_every_minutes=10.0)
