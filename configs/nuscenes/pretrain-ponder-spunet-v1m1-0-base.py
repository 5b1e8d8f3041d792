# SparseUNet on the sweeps of nuScenes with the outdoor sizes of PonderV2: four fifths of a cloud are hidden; images and
# the depth of LiDAR points are rendered. docs/data/driving.md says how to get the data.
_base_ = ["../_base_/pretrain_ponder_outdoor.py"]

_range = (-54.0, -54.0, -3.0, 54.0, 54.0, 5.0)

model = dict(
    encoder=dict(
        type="PointVolumeEncoder",
        backbone=dict(
            type="SpUNet-v1m1",
            in_channels=4,
            base_channels=32,
            channels=(32, 64, 128, 256, 256, 128, 96, 96),
            layers=(2, 3, 4, 6, 2, 2, 2, 2),
        ),
        projection=dict(type="UNet3D-v1m2", in_channels=96, out_channels=32, channels=(32, 64, 96)),
        grid_shape=(180, 180, 5),
        box=_range,
        mask=dict(type="BlockMask", in_channels=4, ratio=0.8, block_size=8),
    ),
)

_features = [
    dict(type="PointRangeFilter", point_cloud_range=_range),
    dict(type="GridSample", grid_size=0.1),
    dict(type="Collect", feat_keys=("coord", "strength"), keys=("grid_coord",)),
]
_sweeps = dict(
    type="NuScenesDrivingDataset",
    data_root="data/nuscenes",
    version="v1.0-trainval",
    image_size=(256, 704),
    max_range_m=50.0,
)
data = dict(
    train=dict(
        **_sweeps,
        split="train",
        transform=[
            dict(type="RandomRotate", angle=(-1 / 4, 1 / 4), axis="z", center=(0, 0, 0), p=0.5),
            dict(type="RandomScale", scale=(0.9, 1.1)),
            dict(type="RandomFlip", p=0.5),
            *_features,
        ],
    ),
    val=dict(**_sweeps, split="val", transform=_features),
)

batch_size = 16
epoch = 24
eval_epoch = 6
