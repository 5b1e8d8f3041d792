# SemanticKITTI, 19 classes: the data, training pipeline and final evaluation that Pointcept publishes.
_base_ = ["./default_runtime.py"]

_feat = ("coord", "strength")
_labels = ("coord", "grid_coord", "segment", "name", "condition")
_sweeps = dict(type="SemanticKITTIDataset", data_root="data/semantic_kitti")
_grid_size = 0.05

data = dict(
    train=dict(
        **_sweeps,
        split="train",
        transform=[
            dict(type="RandomRotate", angle=(-1, 1), axis="z", center=(0, 0, 0), p=0.5),
            dict(type="PointClip", point_cloud_range=(-35.2, -35.2, -4, 35.2, 35.2, 2)),
            dict(type="RandomScale", scale=(0.9, 1.1)),
            dict(type="RandomFlip", p=0.5),
            dict(type="RandomJitter", sigma=0.005, clip=0.02),
            dict(type="GridSample", grid_size=_grid_size),
            dict(type="Collect", feat_keys=_feat, keys=_labels),
        ],
    ),
    val=dict(
        **_sweeps,
        split="val",
        transform=[
            dict(type="PointClip", point_cloud_range=(-35.2, -35.2, -4, 35.2, 35.2, 2)),
            dict(type="GridSample", grid_size=_grid_size, return_inverse=True),
            dict(type="Collect", feat_keys=_feat, keys=_labels),
        ],
    ),
    test=dict(
        **_sweeps, split="val", transform=[dict(type="PointClip", point_cloud_range=(-35.2, -35.2, -4, 35.2, 35.2, 2))]
    ),
)

_evaluator = dict(type="SemSegEvaluator", num_classes=19, class_names="semantic_kitti")
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
        post_transform=[dict(type="Collect", feat_keys=_feat, keys=("coord", "grid_coord", "name", "condition"))],
    ),
)

batch_size = 12
epoch = 50
eval_epoch = 50
enable_amp = True

hooks = [
    dict(type="CheckpointLoader"),
    dict(type="IterationTimer"),
    dict(type="InformationWriter"),
    dict(type="TensorBoardWriter"),
    dict(type="EvaluationHook", evaluator=_evaluator),
    dict(type="CheckpointSaver", save_every_minutes=10.0),
]
