# Low-rank adapters: of the pre-trained transformer only those of its attention train, and the head.
#   sh scripts/train.sh -c demo/semseg-ptv3-lora -w exp/demo/pretrain-ponder-ptv3/model/model_last.pth
_base_ = ["./semseg-ptv3.py"]

model = dict(type="DefaultLORASegmentorV2", lora_r=8, lora_alpha=16.0)
