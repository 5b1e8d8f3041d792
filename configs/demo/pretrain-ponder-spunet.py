# The embedded demo: pre-trains a small SparseUNet by rendering synthetic rooms, in minutes on two CPU cores, and scores
# the held-out views of held-out rooms.
_base_ = ["../_base_/pretrain_ponder_indoor.py"]

_rooms = dict(type="SyntheticRoomDataset", data_root="data/synthetic_rooms", num_train=96, num_val=4)
data = dict(train=dict(**_rooms, split="train"), val=dict(**_rooms, split="val"))

batch_size = 2
epoch = 12
eval_epoch = 2
