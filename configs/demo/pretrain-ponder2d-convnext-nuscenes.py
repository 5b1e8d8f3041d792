# One real sample of nuScenes on a CPU in minutes, with the smallest ConvNeXt: LiDAR depth of one eighth of all
# directions is held out of training and scored. Any root with the layout of nuScenes serves, one sample or all of it.
_base_ = ["../ponder2d/pretrain-ponder-convnext-nuscenes.py"]

_bins = dict(type="DepthBins", near_m=1.0, far_m=60.0, num_bins=59)

model = dict(
    encoder=dict(
        backbone=dict(name="convnext_atto", drop_path_rate=0.0),
        neck=dict(in_channels=(40, 80, 160, 320), out_channels=32),
        geometry=dict(out_channels=32, bins=_bins),
        depth_head=dict(in_channels=32, hidden_channels=32, bins=_bins),
        view_transform=dict(type="ProjectionLifting"),
        projection=dict(in_channels=32, channels=(16, 32, 64)),
        grid_shape=(108, 108, 8),
        mask=dict(_delete_=True, type="ImageBlockMask", ratio=0.3, block_size_px=32),
    ),
    ray_sampler=dict(num_rays=256),
    renderer=dict(sampler=dict(num_samples=48, num_importance=24)),
)

_sample = dict(version="v1.0-mini", split="all", image_size=(128, 352))
data = dict(
    train=dict(**_sample, lidar_split="train", loop=40),
    val=dict(**_sample, lidar_split="heldout"),
)

batch_size = 1
epoch = 10
eval_epoch = 2
