# Semantic segmentation of images with ConvNeXt-T, from scratch or from a pre-trained backbone and neck:
#   sh scripts/train.sh -c ponder2d/semseg-convnext -w exp/ponder2d/pretrain-ponder-convnext/model/model_last.pth
from pointcept.config.blocks import usual_hooks

_base_ = ["../_base_/transfer2d_indoor.py"]

model = dict(
    type="ImageSegmentor",
    num_classes=20,
    backbone=dict(type="TimmBackbone", name="convnext_tiny", drop_path_rate=0.1),
    neck=dict(type="FeaturePyramid", in_channels=(96, 192, 384, 768), in_strides=(4, 8, 16, 32), out_channels=64),
    criteria=[dict(type="CrossEntropyLoss"), dict(type="LovaszLoss")],
)

_cloud = [
    dict(type="GridSample", grid_size=0.2),
    dict(type="Collect", feat_keys=("coord",), keys=("grid_coord",)),
]
data = dict(
    train=dict(
        transform=[
            dict(type="RandomViewCrop", scale=(0.6, 1.0)),
            dict(type="RandomViewFlip", p=0.5),
            dict(type="RandomViewColor"),
            *_cloud,
        ]
    )
)

hooks = usual_hooks(
    dict(type="ImageSegmentationEvaluator", num_classes=20, class_names="scannet20"),
    dict(type="TaskPanelWriter", num_views=8),
    save_every_minutes=5.0,
)
