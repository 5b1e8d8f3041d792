# Decoder probe: the pre-trained encoder is frozen; the backbone's decoder and the head train.
#   sh scripts/train.sh -c demo/semseg-spunet-decoder -w exp/demo/pretrain-ponder-spunet/model/model_last.pth
_base_ = ["./semseg-spunet.py"]

model = dict(freeze_encoder=True)
