# Rendering pre-training of a small SparseUNet on indoor RGB-D scenes: everything but the data set.
# Lengths are metres. What each part does is in docs/pretraining.md.
from pointcept.config.blocks import usual_hooks

_base_ = ["./pretrain_runtime.py"]

_geometry = [
    dict(type="CenterShift", apply_z=True),
    dict(type="RandomDropout", dropout_ratio=0.7, dropout_application_ratio=1.0),
    dict(type="RandomRotate", angle=(-1, 1), axis="z", center=(0, 0, 0), p=0.5),
    dict(type="RandomScale", scale=(0.9, 1.1)),
    dict(type="RandomFlip", p=0.5),
]
_features = [
    dict(type="CenterShift", apply_z=False),
    dict(type="NormalizeColor"),
    dict(type="Collect", feat_keys=("color", "normal")),
]

model = dict(
    type="Ponder",
    encoder=dict(
        type="PointVolumeEncoder",
        backbone=dict(
            type="SpUNet-v1m1",
            in_channels=6,
            base_channels=24,
            channels=(24, 48, 64, 96, 96, 64, 48, 32),
            layers=(1, 1, 1, 1, 1, 1, 1, 1),
            norm_momentum=0.1,
        ),
        projection=dict(type="UNet3D-v1m2", in_channels=32, out_channels=32, channels=(16, 32, 64)),
        grid_shape=(48, 48, 24),
        padding_m=0.2,
        mask=dict(type="BlockMask", in_channels=6, ratio=0.1, block_size=8),
    ),
    ray_sampler=dict(type="RaySampler", num_rays=192),
    renderer=dict(
        type="NeuSRenderer",
        field=dict(type="SDFField", in_channels=32, hidden_channels=32, geometry_channels=15),
        sampler=dict(type="NeuSSampler", num_samples=32, num_importance=16),
        piece_size=None,  # these sizes fit into memory, so nothing needs to be computed twice
    ),
    losses=[
        dict(type="ColorLoss", weight=40.0),
        dict(type="DepthLoss", weight=1.0),
        dict(type="SDFLoss", weight=10.0, truncation_m=0.2),
        dict(type="FreeSpaceLoss", weight=1.0, truncation_m=0.2),
        dict(type="EikonalLoss", weight=0.01),
    ],
)

data = dict(
    train=dict(
        view_split="train",
        num_views=4,
        transform=[
            *_geometry,
            dict(type="GridSample", grid_size=0.06),
            *_features[:2],
            dict(type="ShufflePoint"),
            _features[2],
        ],
    ),
    val=dict(
        view_split="heldout",
        num_views=2,
        transform=[*_geometry[:2], dict(type="GridSample", grid_size=0.06), *_features],
    ),
)

hooks = usual_hooks(
    dict(type="RenderingEvaluator"),
    dict(type="PanelWriter", num_views=8),
    dict(type="MeshWriter"),
    dict(type="SnapshotWriter"),
    save_every_minutes=5.0,
)
