# Rendering pre-training of an image backbone on indoor RGB-D scenes: everything but the backbone and the data set.
# Lengths are metres. What each part does is in docs/ponder2d.md.
from pointcept.config.blocks import usual_hooks

_base_ = ["./pretrain_runtime.py"]
imports = ["ponder2d"]

# The cloud only tells the encoder where the room is: its points are thinned out and their colours dropped.
_cloud = [
    dict(type="GridSample", grid_size=0.2),
    dict(type="CenterShift", apply_z=True),
    dict(type="Collect", feat_keys=("coord",), keys=("grid_coord",)),
]

_bins = dict(type="DepthBins", near_m=0.3, far_m=8.0, num_bins=96, spacing="linear")

model = dict(
    type="Ponder",
    encoder=dict(
        type="ImageVolumeEncoder",
        neck=dict(type="FeaturePyramid", out_channels=64),
        geometry=dict(type="BoxExitEncoding", out_channels=64, bins=_bins),
        depth_head=dict(type="ASPPDepthHead", in_channels=64, hidden_channels=64, bins=_bins),
        depth_weight=1.0,
        view_transform=dict(type="ProjectionLifting"),
        projection=dict(type="UNet3D-v1m2", in_channels=64, out_channels=32, channels=(32, 64, 96)),
        grid_shape=(64, 64, 32),
        padding_m=0.1,
        mask=dict(type="ImageBlockMask", ratio=0.3, block_size_px=32),
    ),
    ray_sampler=dict(type="RaySampler", num_rays=256),
    renderer=dict(
        type="NeuSRenderer",
        field=dict(type="SDFField", in_channels=32, hidden_channels=32, geometry_channels=15),
        sampler=dict(type="NeuSSampler", num_samples=48, num_importance=24),
    ),
    losses=[
        dict(type="ColorLoss", weight=10.0),
        dict(type="DepthLoss", weight=1.0),
        dict(type="SDFLoss", weight=10.0, truncation_m=0.2),
        dict(type="FreeSpaceLoss", weight=1.0, truncation_m=0.2),
        dict(type="EikonalLoss", weight=0.01),
    ],
)

data = dict(
    train=dict(
        view_split="train",
        num_views=3,
        num_input_views=5,
        transform=[
            dict(type="RandomRotateTargetAngle", angle=(0, 1 / 2, 1, 3 / 2), axis="z", center=(0, 0, 0), p=1.0),
            dict(type="RandomFlip", p=0.5),
            *_cloud,
        ],
    ),
    val=dict(view_split="heldout", num_views=2, num_input_views=6, transform=_cloud),
)

hooks = usual_hooks(
    dict(type="RenderingEvaluator"),
    dict(type="PanelWriter", num_views=8),
    dict(type="MeshWriter"),
    dict(type="SnapshotWriter"),
    save_every_minutes=5.0,
)
