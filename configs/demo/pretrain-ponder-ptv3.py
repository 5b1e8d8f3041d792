# The embedded demo with another backbone: pre-trains a small Point Transformer V3 by rendering synthetic rooms.
_base_ = ["./pretrain-ponder-spunet.py"]

model = dict(
    encoder=dict(
        backbone=dict(
            _delete_=True,
            type="ptv3_tiny",
            in_channels=6,
            dec_channels=(32, 64, 96),
            dec_num_head=(1, 2, 3),
            norm_momentum=0.1,
        ),
    ),
)
