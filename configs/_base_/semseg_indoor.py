# Semantic segmentation of indoor clouds with a small SparseUNet: everything but the data set. The backbone and its
# input are those of pretrain_ponder_indoor.py, so that its weights fit.
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

_inputs = ("coord", "grid_coord", "name", "condition")
_labels = ("coord", "grid_coord", "segment", "name", "condition")
data = dict(
    train=dict(
        transform=[
            dict(type="CenterShift", apply_z=True),
            dict(type="RandomDropout", dropout_ratio=0.2, dropout_application_ratio=0.2),
            dict(type="RandomRotate", angle=(-1, 1), axis="z", center=(0, 0, 0), p=0.5),
            dict(type="RandomScale", scale=(0.9, 1.1)),
            dict(type="RandomFlip", p=0.5),
            dict(type="RandomJitter", sigma=0.005, clip=0.02),
            dict(type="ChromaticAutoContrast", p=0.2),
            dict(type="ChromaticTranslation", p=0.95, ratio=0.05),
            dict(type="ChromaticJitter", p=0.95, std=0.05),
            dict(type="GridSample", grid_size=0.06),
            dict(type="CenterShift", apply_z=False),
            dict(type="NormalizeColor"),
            dict(type="ShufflePoint"),
            dict(type="Collect", feat_keys=("color", "normal"), keys=_labels),
        ],
    ),
    val=dict(
        transform=[
            dict(type="CenterShift", apply_z=True),
            dict(type="GridSample", grid_size=0.06, return_inverse=True),
            dict(type="CenterShift", apply_z=False),
            dict(type="NormalizeColor"),
            dict(type="Collect", feat_keys=("color", "normal"), keys=_labels),
        ],
    ),
    test=dict(transform=[dict(type="CenterShift", apply_z=True), dict(type="NormalizeColor")]),
)

_turn = dict(type="RandomRotateTargetAngle", axis="z", center=(0, 0, 0), p=1.0)
test = dict(
    _delete_=True,
    type="SemSegTester",
    evaluator=dict(type="SemSegEvaluator", num_classes=20, class_names="scannet20"),
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
        post_transform=[
            dict(type="CenterShift", apply_z=False),
            dict(type="Collect", feat_keys=("color", "normal"), keys=_inputs),
        ],
    ),
)

optimizer = dict(type="AdamW", lr=2e-3, weight_decay=0.02)
scheduler = dict(type="OneCycleLR", max_lr=2e-3, pct_start=0.1, div_factor=10.0, final_div_factor=100.0)
clip_grad = 10.0
sync_bn = True

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="IterationTimer"),
    dict(type="InformationWriter"),
    dict(type="TensorBoardWriter"),
    dict(type="EvaluationHook", evaluator=dict(type="SemSegEvaluator", num_classes=20, class_names="scannet20")),
    dict(type="CheckpointSaver", save_every_minutes=5.0),
]
