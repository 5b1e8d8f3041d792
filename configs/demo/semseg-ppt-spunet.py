# Point Prompt Training on several data sets: one backbone with norms and a head for each. Here they are two sets of
# synthetic rooms, of which the first has three batches for every one of the second.
#   sh scripts/train.sh -c demo/semseg-ppt-spunet
_base_ = ["../_base_/semseg_indoor.py"]

_names = ("Rooms", "OtherRooms")
model = dict(
    _delete_=True,
    type="PPT-v1m2",
    backbone=dict(
        type="SpUNet-v1m3",
        in_channels=6,
        base_channels=24,
        channels=(24, 48, 64, 96, 96, 64, 48, 32),
        layers=(1, 1, 1, 1, 1, 1, 1, 1),
        conditions=_names,
        context_channels=64,
        norm_momentum=0.1,
    ),
    criteria=[dict(type="CrossEntropyLoss"), dict(type="LovaszLoss")],
    conditions=_names,
    num_classes=(20, 20),
)

_labels = ("coord", "grid_coord", "segment", "name", "condition")
_transform = [
    dict(type="CenterShift", apply_z=True),
    dict(type="RandomRotate", angle=(-1, 1), axis="z", center=(0, 0, 0), p=0.5),
    dict(type="RandomScale", scale=(0.9, 1.1)),
    dict(type="RandomFlip", p=0.5),
    dict(type="GridSample", grid_size=0.06),
    dict(type="CenterShift", apply_z=False),
    dict(type="NormalizeColor"),
    dict(type="ShufflePoint"),
    dict(type="Collect", feat_keys=("color", "normal"), keys=_labels),
]
_rooms = dict(type="SyntheticRoomDataset", data_root="data/synthetic_rooms", num_train=96, num_val=4, num_views=0)
_other = dict(_rooms, data_root="data/other_rooms", room_seed=1, num_train=32)
data = dict(
    train=dict(
        _delete_=True,
        type="MixedDataset",
        datasets=[
            dict(**_rooms, split="train", condition="Rooms", transform=_transform),
            dict(**_other, split="train", condition="OtherRooms", transform=_transform),
        ],
        ratios=(3, 1),
    ),
    val=dict(**_rooms, split="val", condition="Rooms"),
    test=dict(**_rooms, split="val", condition="Rooms"),
)

batch_size = 4
epoch = 12
eval_epoch = 4
find_unused_parameters = True  # a batch uses the norms and the head of its own data set alone
