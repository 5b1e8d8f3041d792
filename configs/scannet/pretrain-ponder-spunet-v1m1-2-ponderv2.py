# The same with the behaviour and the weights of PonderV2's released code, without its labels.
_base_ = ["./pretrain-ponder-spunet-v1m1-0-base.py"]

recipe = "ponderv2"
