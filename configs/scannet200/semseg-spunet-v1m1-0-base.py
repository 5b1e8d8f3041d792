# ScanNet with 200 classes, with SparseUNet: everything but the classes is as for 20.
_base_ = ["../scannet/semseg-spunet-v1m1-0-base.py"]

model = dict(backbone=dict(num_classes=200))
data = dict(
    train=dict(type="ScanNet200Dataset"), val=dict(type="ScanNet200Dataset"), test=dict(type="ScanNet200Dataset")
)
_evaluator = dict(type="SemSegEvaluator", num_classes=200, class_names="scannet200")
test = dict(evaluator=_evaluator)

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="IterationTimer"),
    dict(type="InformationWriter"),
    dict(type="TensorBoardWriter"),
    dict(type="EvaluationHook", evaluator=_evaluator),
    dict(type="CheckpointSaver", save_every_minutes=10.0),
]
