# Point Prompt Training of a SparseUNet on Structured3D, ScanNet and S3DIS (4, 2 and 1 batches in turn), with a head
# that compares with text embeddings of the class names; scored on ScanNet. The table of embeddings is written by
#   python -m pointcept.language
# and given with --options model.embeddings=FILE. A PPT-v1m1 checkpoint of Pointcept brings its own:
#   sh scripts/train.sh -d scannet -c semseg-ppt-v1m1-0-sc-st-spunet -w CHECKPOINT
_base_ = ["../_base_/default_runtime.py"]

model = dict(
    type="PPT-v1m1",
    backbone=dict(
        type="SpUNet-v1m3",
        in_channels=6,
        base_channels=32,
        channels=(32, 64, 128, 256, 256, 128, 96, 96),
        layers=(2, 3, 4, 6, 2, 2, 2, 2),
        conditions=("Structured3D", "ScanNet", "S3DIS"),
        norm_decouple=True,
        norm_adaptive=True,
        norm_affine=True,
        context_channels=256,
        zero_init=False,
    ),
    criteria=[dict(type="CrossEntropyLoss"), dict(type="LovaszLoss")],
    conditions=("Structured3D", "ScanNet", "S3DIS"),
    # rows of the table of 36 indoor classes, in the order of each data set's labels
    valid_index=(
        (0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23, 25, 26, 33, 34, 35),
        (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 20, 22, 24, 25, 27, 34),
        (19, 1, 0, 30, 31, 8, 7, 6, 4, 5, 10, 29, 32),
    ),
)

_labels = ("coord", "grid_coord", "segment", "name", "condition")
_train = [
    dict(type="CenterShift", apply_z=True),
    dict(type="RandomDropout", dropout_ratio=0.2, dropout_application_ratio=0.2),
    dict(type="RandomRotate", angle=(-1, 1), axis="z", center=(0, 0, 0), p=0.5),
    dict(type="RandomRotate", angle=(-1 / 64, 1 / 64), axis="x", p=0.5),
    dict(type="RandomRotate", angle=(-1 / 64, 1 / 64), axis="y", p=0.5),
    dict(type="RandomScale", scale=(0.9, 1.1)),
    dict(type="RandomFlip", p=0.5),
    dict(type="RandomJitter", sigma=0.005, clip=0.02),
    dict(type="ChromaticAutoContrast", p=0.2),
    dict(type="ChromaticTranslation", p=0.95, ratio=0.05),
    dict(type="ChromaticJitter", p=0.95, std=0.05),
    dict(type="GridSample", grid_size=0.02),
    dict(type="SphereCrop", sample_rate=0.8, mode="random"),
    dict(type="SphereCrop", point_max=100_000, mode="random"),
    dict(type="CenterShift", apply_z=False),
    dict(type="NormalizeColor"),
    dict(type="ShufflePoint"),
    dict(type="Collect", feat_keys=("color", "normal"), keys=_labels),
]
_structured3d = dict(
    type="SceneDataset", data_root="data/structured3d", condition="Structured3D", segment_key="segment"
)
_scannet = dict(type="SceneDataset", data_root="data/scannet", condition="ScanNet", segment_key="segment20")
_s3dis = dict(type="SceneDataset", data_root="data/s3dis", condition="S3DIS", segment_key="segment")
_areas = ("Area_1", "Area_2", "Area_3", "Area_4", "Area_6")
_start = [dict(type="CenterShift", apply_z=True), dict(type="NormalizeColor")]

data = dict(
    train=dict(
        type="MixedDataset",
        datasets=[
            dict(**_structured3d, split=("train", "val", "test"), transform=_train),
            dict(**_scannet, split="train", transform=_train),
            dict(**_s3dis, split=_areas, transform=_train),
        ],
        ratios=(4, 2, 1),
    ),
    val=dict(
        **_scannet,
        split="val",
        transform=[
            dict(type="CenterShift", apply_z=True),
            dict(type="GridSample", grid_size=0.02, return_inverse=True),
            dict(type="CenterShift", apply_z=False),
            dict(type="NormalizeColor"),
            dict(type="Collect", feat_keys=("color", "normal"), keys=_labels),
        ],
    ),
    test=dict(**_scannet, split="val", transform=_start),
)

_turn = dict(type="RandomRotateTargetAngle", axis="z", center=(0, 0, 0), p=1.0)
_variants = [
    [dict(**_turn, angle=(a,)), dict(type="RandomScale", scale=(s, s))]
    for s in (1, 0.95, 1.05)
    for a in (0, 0.5, 1, 1.5)
]
test = dict(
    _delete_=True,
    type="SemSegTester",
    evaluator=dict(type="SemSegEvaluator", num_classes=20, class_names="scannet20"),
    inference=dict(
        type="FragmentInference",
        grid_size=0.02,
        aug_transform=[*_variants, [dict(type="RandomFlip", p=1.0)]],
        post_transform=[
            dict(type="CenterShift", apply_z=False),
            dict(type="Collect", feat_keys=("color", "normal"), keys=("coord", "grid_coord", "name", "condition")),
        ],
    ),
)

batch_size = 12
num_worker = 24
epoch = 100
eval_epoch = 100
sync_bn = True
enable_amp = True
find_unused_parameters = True  # a batch uses the norms of its own data set alone
clip_grad = 10.0

optimizer = dict(type="SGD", lr=0.05, momentum=0.9, weight_decay=0.0001, nesterov=True)
scheduler = dict(type="OneCycleLR", max_lr=0.05, pct_start=0.05, div_factor=10.0, final_div_factor=10000.0)
hooks = [
    dict(type="CheckpointLoader"),
    dict(type="IterationTimer"),
    dict(type="InformationWriter"),
    dict(type="TensorBoardWriter"),
    dict(type="EvaluationHook", evaluator=dict(type="SemSegEvaluator", num_classes=20, class_names="scannet20")),
    dict(type="CheckpointSaver"),
]
