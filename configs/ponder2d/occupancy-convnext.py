# Semantic occupancy from several posed images with ConvNeXt-T, from scratch or from the whole pre-trained encoder:
#   sh scripts/train.sh -c ponder2d/occupancy-convnext -w exp/ponder2d/pretrain-ponder-convnext/model/model_last.pth
# A voxel is labelled by the points of the room's cloud in it. The encoder is that of the pre-training without its mask.
from pointcept.config.blocks import usual_hooks

_base_ = ["../_base_/transfer2d_indoor.py"]

_bins = dict(type="DepthBins", near_m=0.3, far_m=8.0, num_bins=96, spacing="linear")

model = dict(
    type="OccupancyPredictor",
    num_classes=20,
    encoder=dict(
        type="ImageVolumeEncoder",
        backbone=dict(type="TimmBackbone", name="convnext_tiny", drop_path_rate=0.1),
        neck=dict(type="FeaturePyramid", in_channels=(96, 192, 384, 768), in_strides=(4, 8, 16, 32), out_channels=64),
        geometry=dict(type="BoxExitEncoding", out_channels=64, bins=_bins),
        depth_head=dict(type="ASPPDepthHead", in_channels=64, hidden_channels=64, bins=_bins),
        depth_weight=1.0,
        view_transform=dict(type="ProjectionLifting"),
        projection=dict(type="UNet3D-v1m2", in_channels=64, out_channels=32, channels=(32, 64, 96)),
        grid_shape=(64, 64, 32),
        padding_m=0.1,
    ),
    criteria=[dict(type="CrossEntropyLoss"), dict(type="LovaszLoss")],
)

# Every point of the cloud is a vote for its voxel, so it is thinned out less than where it only tells the box.
_cloud = [
    dict(type="GridSample", grid_size=0.05),
    dict(type="Collect", feat_keys=("coord",), keys=("grid_coord", "segment")),
]
data = dict(
    train=dict(
        num_views=6,
        transform=[
            dict(type="RandomRotateTargetAngle", angle=(0, 1 / 2, 1, 3 / 2), axis="z", center=(0, 0, 0), p=1.0),
            dict(type="RandomViewFlip", p=0.5),
            dict(type="RandomViewColor"),
            *_cloud,
        ],
    ),
    val=dict(num_views=12, transform=_cloud),
)

batch_size = 2

hooks = usual_hooks(
    dict(type="OccupancyEvaluator", num_classes=20, class_names="scannet20"),
    dict(type="TaskPanelWriter", num_views=4),
    save_every_minutes=5.0,
)
