# ConvNeXt-T on synthetic rooms, from images alone: a third of each input view is hidden, depth is predicted, and other
# views are rendered. TimmBackbone(pretrained=True) would start from timm's ImageNet weights.
_base_ = ["../_base_/pretrain_ponder2d_indoor.py"]

model = dict(
    encoder=dict(
        backbone=dict(type="TimmBackbone", name="convnext_tiny", drop_path_rate=0.1),
        neck=dict(in_channels=(96, 192, 384, 768), in_strides=(4, 8, 16, 32)),
        mask=dict(_delete_=True, type="MaskedConvolution", ratio=0.3, block_size_px=32),
    ),
)

_rooms = dict(type="SyntheticRoomDataset", data_root="data/synthetic_rooms", num_train=96, num_val=4)
data = dict(train=dict(**_rooms, split="train", loop=4), val=dict(**_rooms, split="val"))

batch_size = 4
epoch = 50
eval_epoch = 10
