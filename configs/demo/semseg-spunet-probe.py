# Linear probe: a linear layer on the frozen features of all resolutions of a pre-trained backbone.
#   sh scripts/train.sh -c demo/semseg-spunet-probe -w exp/demo/pretrain-ponder-spunet/model/model_last.pth
_base_ = ["./semseg-spunet.py"]

model = dict(freeze_backbone=True, normalize_features=True, hyper_column=True)
optimizer = dict(lr=1e-2)
scheduler = dict(max_lr=1e-2)
