# ScanNet at the size of PonderV2's single-data-set pre-training (arXiv 2310.08586): network, volume, rays, samples,
# batch and learning rate are the published ones; losses and boxes are metric, no labels are used, and held-out frames
# of the validation scenes are scored.
_base_ = ["../_base_/pretrain_ponder_indoor.py"]

model = dict(
    encoder=dict(
        backbone=dict(
            base_channels=32,
            channels=(32, 64, 128, 256, 256, 128, 96, 96),
            layers=(2, 3, 4, 6, 2, 2, 2, 2),
            norm_momentum=0.01,
        ),
        projection=dict(in_channels=96, out_channels=128, channels=(32, 64, 128, 256)),
        grid_shape=(128, 128, 32),
        mask=None,
    ),
    ray_sampler=dict(num_rays=256),
    renderer=dict(
        field=dict(in_channels=128, hidden_channels=128, geometry_channels=64),
        sampler=dict(num_samples=96, num_importance=36),
        piece_size=8192,
    ),
)

_scenes = dict(type="RGBDSceneDataset", data_root="data/scannet", frame_interval=10, segment_key=None)
data = dict(
    train=dict(
        **_scenes,
        split="train",
        num_views=5,
        transform=[
            dict(type="CenterShift", apply_z=True),
            dict(type="RandomDropout", dropout_ratio=0.8, dropout_application_ratio=1.0),
            dict(type="RandomRotate", angle=(-1, 1), axis="z", center=(0, 0, 0), p=0.5),
            dict(type="RandomRotate", angle=(-1 / 64, 1 / 64), axis="x", p=0.5),
            dict(type="RandomRotate", angle=(-1 / 64, 1 / 64), axis="y", p=0.5),
            dict(type="RandomScale", scale=(0.9, 1.1)),
            dict(type="RandomFlip", p=0.5),
            dict(type="GridSample", grid_size=0.02),
            dict(type="CenterShift", apply_z=False),
            dict(type="NormalizeColor"),
            dict(type="ShufflePoint"),
            dict(type="Collect", feat_keys=("color", "normal")),
        ],
    ),
    val=dict(
        **_scenes,
        split="val",
        transform=[
            dict(type="CenterShift", apply_z=True),
            dict(type="GridSample", grid_size=0.02),
            dict(type="CenterShift", apply_z=False),
            dict(type="NormalizeColor"),
            dict(type="Collect", feat_keys=("color", "normal")),
        ],
    ),
)

batch_size = 32
num_worker = 16
epoch = 2000
eval_epoch = 100
optimizer = dict(_delete_=True, type="SGD", lr=0.002, momentum=0.9, weight_decay=1e-4, nesterov=True)
scheduler = dict(max_lr=0.002, pct_start=0.05, div_factor=10.0, final_div_factor=1e4)
enable_amp = True
