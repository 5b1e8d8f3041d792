# Structured3D, 25 classes: the data, training pipeline and final evaluation that Pointcept publishes.
from pointcept.config.blocks import scene_transforms, usual_hooks

_base_ = ["./semseg_scannet.py"]

_transforms = scene_transforms(0.02, ("color", "normal"), crops=[dict(sample_rate=0.6)], elastic=True)
_scenes = dict(type="Structured3DDataset", data_root="data/structured3d")
data = dict(train=dict(**_scenes, transform=_transforms["train"]), val=_scenes, test=_scenes)

_evaluator = dict(type="SemSegEvaluator", num_classes=25, class_names="structured3d")
test = dict(evaluator=_evaluator)
hooks = usual_hooks(_evaluator, save_every_minutes=10.0)
