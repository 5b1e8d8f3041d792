# The SparseUNet that Pointcept publishes for semantic segmentation (39 M parameters); a config adds in_channels and the
# classes. The backbone gives the logits itself, so that Pointcept's checkpoints load.
model = dict(
    type="DefaultSegmentor",
    backbone=dict(
        type="SpUNet-v1m1",
        channels=(32, 64, 128, 256, 256, 128, 96, 96),
        layers=(2, 3, 4, 6, 2, 2, 2, 2),
    ),
    criteria=[dict(type="CrossEntropyLoss")],
)
