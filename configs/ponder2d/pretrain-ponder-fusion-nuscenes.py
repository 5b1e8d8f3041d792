# Images and sweeps of nuScenes together: ConvNeXt-T and SparseUNet fill one volume, of which both are rendered.
_base_ = ["./pretrain-ponder-convnext-nuscenes.py"]

_bins = dict(type="DepthBins", near_m=1.0, far_m=60.0, num_bins=118)
_range = (-54.0, -54.0, -3.0, 54.0, 54.0, 5.0)

model = dict(
    encoder=dict(
        _delete_=True,
        type="FusionVolumeEncoder",
        image=dict(
            type="ImageVolumeEncoder",
            backbone=dict(type="TimmBackbone", name="convnext_tiny", drop_path_rate=0.2),
            neck=dict(
                type="FeaturePyramid", in_channels=(96, 192, 384, 768), in_strides=(4, 8, 16, 32), out_channels=128
            ),
            geometry=dict(type="BoxExitEncoding", out_channels=128, bins=_bins),
            depth_head=dict(type="ASPPDepthHead", in_channels=128, bins=_bins),
            depth_weight=1.0,
            view_transform=dict(type="SplattingLifting"),
            grid_shape=(180, 180, 5),
            box=_range,
            mask=dict(type="MaskedConvolution", ratio=0.3, block_size_px=32),
        ),
        points=dict(
            type="PointVolumeEncoder",
            backbone=dict(
                type="SpUNet-v1m1",
                in_channels=4,
                channels=(32, 64, 128, 256, 256, 128, 96, 96),
                layers=(2, 3, 4, 6, 2, 2, 2, 2),
            ),
            projection=None,
            mask=dict(type="BlockMask", in_channels=4, ratio=0.8, block_size=8),
        ),
        projection=dict(type="UNet3D-v1m2", in_channels=224, out_channels=32, channels=(32, 64, 96)),
    ),
)

_cloud = [
    dict(type="PointRangeFilter", point_cloud_range=_range),
    dict(type="GridSample", grid_size=0.1),
    dict(type="Collect", feat_keys=("coord", "strength"), keys=("grid_coord",)),
]
data = dict(train=dict(transform=_cloud), val=dict(transform=_cloud))
