# Transfer of an image backbone to a task on indoor RGB-D scenes: everything but the model and its evaluator. The rooms,
# and with them the labels, are those of the pre-training; data.train.fraction=0.1 uses the labels of every tenth.
_base_ = ["./default_runtime.py"]
imports = ["ponder2d"]

_cloud = [
    dict(type="GridSample", grid_size=0.2),
    dict(type="Collect", feat_keys=("coord",), keys=("grid_coord",)),
]
_rooms = dict(type="SyntheticRoomDataset", data_root="data/synthetic_rooms", num_train=96, num_val=4, view_split="all")

data = dict(
    train=dict(
        **_rooms,
        split="train",
        num_views=4,
        transform=[dict(type="RandomViewFlip", p=0.5), dict(type="RandomViewColor"), *_cloud],
    ),
    val=dict(**_rooms, split="val", num_views=24, transform=_cloud),
)

batch_size = 4
epoch = 40
eval_epoch = 4

optimizer = dict(type="AdamW", lr=1e-3, weight_decay=0.05)
scheduler = dict(type="OneCycleLR", max_lr=1e-3, pct_start=0.1, div_factor=10.0, final_div_factor=100.0)
clip_grad = 10.0
sync_bn = True
