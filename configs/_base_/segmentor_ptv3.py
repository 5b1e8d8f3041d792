# The Point Transformer V3 that Pointcept publishes for semantic segmentation (46 M parameters); a config adds
# in_channels, the classes and param_dicts: the attention blocks learn ten times as slowly as the rest.
model = dict(
    type="DefaultSegmentorV2",
    backbone_out_channels=64,
    backbone=dict(
        type="PT-v3m1",
        order=("z", "z-trans", "hilbert", "hilbert-trans"),
        stride=(2, 2, 2, 2),
        enc_depths=(2, 2, 2, 6, 2),
        enc_channels=(32, 64, 128, 256, 512),
        enc_num_head=(2, 4, 8, 16, 32),
        enc_patch_size=(1024, 1024, 1024, 1024, 1024),
        dec_depths=(2, 2, 2, 2),
        dec_channels=(64, 64, 128, 256),
        dec_num_head=(4, 4, 8, 16),
        dec_patch_size=(1024, 1024, 1024, 1024),
        drop_path=0.3,
    ),
    criteria=[dict(type="CrossEntropyLoss"), dict(type="LovaszLoss")],
)
optimizer = dict(type="AdamW", lr=0.006, weight_decay=0.05)
scheduler = dict(type="OneCycleLR", max_lr=(0.006, 0.0006), pct_start=0.05, div_factor=10.0, final_div_factor=1000.0)
