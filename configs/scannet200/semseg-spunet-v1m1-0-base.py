# ScanNet with 200 classes, with SparseUNet: everything but the classes is as for 20.
from pointcept.config.blocks import usual_hooks

_base_ = ["../scannet/semseg-spunet-v1m1-0-base.py"]

model = dict(backbone=dict(num_classes=200))
_scenes = dict(type="ScanNet200Dataset")
data = dict(train=_scenes, val=_scenes, test=_scenes)

_evaluator = dict(type="SemSegEvaluator", num_classes=200, class_names="scannet200")
test = dict(evaluator=_evaluator)
hooks = usual_hooks(_evaluator, save_every_minutes=10.0)
