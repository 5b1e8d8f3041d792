# Semantic segmentation of the embedded synthetic rooms with a small Point Transformer V3:
#   sh scripts/train.sh -c demo/semseg-ptv3 -w exp/demo/pretrain-ponder-ptv3/model/model_last.pth
_base_ = ["./semseg-spunet.py"]

model = dict(
    backbone=dict(
        _delete_=True,
        type="ptv3_tiny",
        in_channels=6,
        dec_channels=(32, 64, 96),
        dec_num_head=(1, 2, 3),
        norm_momentum=0.1,
    ),
)
