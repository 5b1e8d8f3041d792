# Semantic segmentation of the embedded synthetic rooms, from scratch or from a pre-trained backbone:
#   sh scripts/train.sh -c demo/semseg-spunet -w exp/demo/pretrain-ponder-spunet/model/model_last.pth
_base_ = ["../_base_/semseg_indoor.py"]

_rooms = dict(type="SyntheticRoomDataset", data_root="data/synthetic_rooms", num_train=96, num_val=4, num_views=0)
data = dict(train=dict(**_rooms, split="train"), val=dict(**_rooms, split="val"), test=dict(**_rooms, split="val"))

batch_size = 4
epoch = 12
eval_epoch = 4
