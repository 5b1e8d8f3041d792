# Point Prompt Training of a SparseUNet on Structured3D, ScanNet and S3DIS (4, 2 and 1 batches in turn), with a head
# that compares with text embeddings of the class names; scored on ScanNet. The table of embeddings is written by
#   python -m pointcept.language
# and given with --options model.embeddings=FILE. A PPT-v1m1 checkpoint of Pointcept brings its own:
#   sh scripts/train.sh -d scannet -c semseg-ppt-v1m1-0-sc-st-spunet -w CHECKPOINT
from pointcept.config.blocks import scene_transforms, turned_variants, usual_hooks

_base_ = ["../_base_/semseg_benchmark.py"]

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

_crops = [dict(sample_rate=0.8), dict(point_max=100_000)]
_transforms = scene_transforms(0.02, ("color", "normal"), crops=_crops)
_train = _transforms["train"]
_structured3d = dict(
    type="SceneDataset", data_root="data/structured3d", condition="Structured3D", segment_key="segment"
)
_scannet = dict(type="SceneDataset", data_root="data/scannet", condition="ScanNet", segment_key="segment20")
_s3dis = dict(type="SceneDataset", data_root="data/s3dis", condition="S3DIS", segment_key="segment")
_areas = ("Area_1", "Area_2", "Area_3", "Area_4", "Area_6")

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
    val=dict(**_scannet, split="val", transform=_transforms["val"]),
    test=dict(**_scannet, split="val", transform=_transforms["test"]),
)

_evaluator = dict(type="SemSegEvaluator", num_classes=20, class_names="scannet20")
test = dict(
    evaluator=_evaluator,
    inference=dict(grid_size=0.02, aug_transform=turned_variants(), post_transform=_transforms["fragment"]),
)
hooks = usual_hooks(_evaluator)

num_worker = 24
epoch = 100
eval_epoch = 100
sync_bn = True
find_unused_parameters = True  # a batch uses the norms of its own data set alone
clip_grad = 10.0

optimizer = dict(type="SGD", lr=0.05, momentum=0.9, weight_decay=0.0001, nesterov=True)
scheduler = dict(type="OneCycleLR", max_lr=0.05, pct_start=0.05, div_factor=10.0, final_div_factor=10000.0)
