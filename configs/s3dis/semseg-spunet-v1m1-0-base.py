# S3DIS from scratch with SparseUNet, as Pointcept publishes it: 5 cm voxels, position and colour as features; tested on
# Area 5. For 6-fold cross-validation change the three splits.
_base_ = ["../_base_/segmentor_spunet.py", "../_base_/default_runtime.py"]

model = dict(backbone=dict(in_channels=6, num_classes=13))

_feat = ("coord", "color")
_labels = ("coord", "grid_coord", "segment", "name", "condition")
_inputs = ("coord", "grid_coord", "name", "condition")
_scenes = dict(type="S3DISDataset", data_root="data/s3dis")
_grid_size = 0.05

_augmentation = [
    dict(type="CenterShift", apply_z=True),
    dict(type="RandomDropout", dropout_ratio=0.2, dropout_application_ratio=0.2),
    dict(type="RandomRotate", angle=(-1, 1), axis="z", center=(0, 0, 0), p=0.5),
    dict(type="RandomRotate", angle=(-1 / 64, 1 / 64), axis="x", p=0.5),
    dict(type="RandomRotate", angle=(-1 / 64, 1 / 64), axis="y", p=0.5),
    dict(type="RandomScale", scale=(0.9, 1.1)),
    dict(type="RandomFlip", p=0.5),
    dict(type="RandomJitter", sigma=0.005, clip=0.02),
    dict(type="ElasticDistortion", distortion_params=((0.2, 0.4), (0.8, 1.6))),
    dict(type="ChromaticAutoContrast", p=0.2),
    dict(type="ChromaticTranslation", p=0.95, ratio=0.05),
    dict(type="ChromaticJitter", p=0.95, std=0.05),
]
data = dict(
    train=dict(
        **_scenes,
        split=("Area_1", "Area_2", "Area_3", "Area_4", "Area_6"),
        transform=[
            *_augmentation,
            dict(type="GridSample", grid_size=_grid_size),
            dict(type="SphereCrop", point_max=100000, mode="random"),
            dict(type="CenterShift", apply_z=False),
            dict(type="NormalizeColor"),
            dict(type="ShufflePoint"),
            dict(type="Collect", feat_keys=_feat, keys=_labels),
        ],
    ),
    val=dict(
        **_scenes,
        split="Area_5",
        transform=[
            dict(type="CenterShift", apply_z=True),
            dict(type="GridSample", grid_size=_grid_size, return_inverse=True),
            dict(type="CenterShift", apply_z=False),
            dict(type="NormalizeColor"),
            dict(type="Collect", feat_keys=_feat, keys=_labels),
        ],
    ),
    test=dict(
        **_scenes,
        split="Area_5",
        transform=[dict(type="CenterShift", apply_z=True), dict(type="NormalizeColor")],
    ),
)

_evaluator = dict(type="SemSegEvaluator", num_classes=13, class_names="s3dis")
_variants = [
    [dict(type="RandomScale", scale=(scale, scale)), *flip]
    for flip in ([], [dict(type="RandomFlip", p=1.0)])
    for scale in (0.9, 0.95, 1.0, 1.05, 1.1)
]
test = dict(
    type="SemSegTester",
    evaluator=_evaluator,
    inference=dict(
        type="FragmentInference",
        grid_size=_grid_size,
        aug_transform=_variants,
        post_transform=[
            dict(type="CenterShift", apply_z=False),
            dict(type="Collect", feat_keys=_feat, keys=_inputs),
        ],
    ),
)

batch_size = 12
epoch = 3000
optimizer = dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=0.0001, nesterov=True)
scheduler = dict(type="PolyLR")
mix_prob = 0.8
enable_amp = True

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="IterationTimer"),
    dict(type="InformationWriter"),
    dict(type="TensorBoardWriter"),
    dict(type="EvaluationHook", evaluator=_evaluator),
    dict(type="CheckpointSaver", save_every_minutes=10.0),
]
