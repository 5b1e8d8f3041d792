# Semantic segmentation of indoor clouds with a small SparseUNet: everything but the data set. The backbone and its
# input are those of pretrain_ponder_indoor.py, so that its weights fit.
from pointcept.config.blocks import scene_transforms, usual_hooks

_base_ = ["./default_runtime.py"]

model = dict(
    type="DefaultSegmentorV2",
    num_classes=20,
    backbone=dict(
        type="SpUNet-v1m1",
        in_channels=6,
        base_channels=24,
        channels=(24, 48, 64, 96, 96, 64, 48, 32),
        layers=(1, 1, 1, 1, 1, 1, 1, 1),
        norm_momentum=0.1,
    ),
    criteria=[dict(type="CrossEntropyLoss"), dict(type="LovaszLoss")],
)

_transforms = scene_transforms(0.06, ("color", "normal"), tilt=False)
data = dict(
    train=dict(transform=_transforms["train"]),
    val=dict(transform=_transforms["val"]),
    test=dict(transform=_transforms["test"]),
)

_evaluator = dict(type="SemSegEvaluator", num_classes=20, class_names="scannet20")
_turn = dict(type="RandomRotateTargetAngle", axis="z", center=(0, 0, 0), p=1.0)
test = dict(
    type="SemSegTester",
    evaluator=_evaluator,
    inference=dict(
        type="FragmentInference",
        grid_size=0.06,
        aug_transform=[
            [],
            [dict(**_turn, angle=(0.5,))],
            [dict(**_turn, angle=(1.0,))],
            [dict(**_turn, angle=(1.5,))],
            [dict(type="RandomFlip", p=1.0)],
        ],
        post_transform=_transforms["fragment"],
    ),
)

optimizer = dict(type="AdamW", lr=2e-3, weight_decay=0.02)
scheduler = dict(type="OneCycleLR", max_lr=2e-3, pct_start=0.1, div_factor=10.0, final_div_factor=100.0)
clip_grad = 10.0
sync_bn = True

hooks = usual_hooks(_evaluator, save_every_minutes=5.0)
