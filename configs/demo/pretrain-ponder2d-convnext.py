# The embedded demo of the 2D branch: pre-trains the smallest ConvNeXt of timm by rendering views of synthetic rooms
# from other views, in minutes on two CPU cores, and scores the held-out views of held-out rooms.
_base_ = ["../_base_/pretrain_ponder2d_indoor.py"]

model = dict(
    encoder=dict(
        backbone=dict(type="TimmBackbone", name="convnext_atto"),
        neck=dict(in_channels=(40, 80, 160, 320), in_strides=(4, 8, 16, 32), out_channels=32),
        geometry=dict(out_channels=32),
        depth_head=dict(in_channels=32, hidden_channels=32),
        with_color=True,
        lift_depth="measured",
        projection=dict(in_channels=36, out_channels=32, channels=(16, 32, 64)),
        grid_shape=(48, 48, 24),
        mask=None,
    ),
    ray_sampler=dict(num_rays=192),
    renderer=dict(field=dict(in_channels=36), sampler=dict(num_samples=32, num_importance=16), piece_size=None),
)

_rooms = dict(type="SyntheticRoomDataset", data_root="data/synthetic_rooms", num_train=96, num_val=4)
data = dict(train=dict(**_rooms, split="train"), val=dict(**_rooms, split="val"))

batch_size = 2
epoch = 16
eval_epoch = 2
