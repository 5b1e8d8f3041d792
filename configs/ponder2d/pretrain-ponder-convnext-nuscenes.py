# ConvNeXt-T on nuScenes at UniPAD's size: a part of each of the six images is hidden, their features are lifted by the
# predicted depth, and the images and the depth of LiDAR points are rendered. The data: docs/data/driving.md.
_base_ = ["../_base_/pretrain_ponder_outdoor.py"]
imports = ["ponder2d"]

_bins = dict(type="DepthBins", near_m=1.0, far_m=60.0, num_bins=118)
_box = (-54.0, -54.0, -3.0, 54.0, 54.0, 5.0)

model = dict(
    encoder=dict(
        type="ImageVolumeEncoder",
        backbone=dict(type="TimmBackbone", name="convnext_tiny", drop_path_rate=0.2),
        neck=dict(type="FeaturePyramid", in_channels=(96, 192, 384, 768), in_strides=(4, 8, 16, 32), out_channels=128),
        geometry=dict(type="BoxExitEncoding", out_channels=128, bins=_bins),
        depth_head=dict(type="ASPPDepthHead", in_channels=128, bins=_bins),
        depth_weight=1.0,
        view_transform=dict(type="SplattingLifting"),
        projection=dict(type="UNet3D-v1m2", in_channels=128, out_channels=32, channels=(32, 64, 96)),
        grid_shape=(180, 180, 5),
        box=_box,
        mask=dict(type="MaskedConvolution", ratio=0.3, block_size_px=32),
    ),
)

_cloud = [
    dict(type="GridSample", grid_size=0.5),
    dict(type="Collect", feat_keys=("strength",), keys=("grid_coord",)),
]
_samples = dict(
    type="NuScenesDrivingDataset",
    data_root="data/nuscenes",
    version="v1.0-trainval",
    image_size=(256, 704),
    max_range_m=50.0,
    transform=_cloud,
)
data = dict(train=dict(**_samples, split="train"), val=dict(**_samples, split="val"))

batch_size = 4
epoch = 12
eval_epoch = 4
