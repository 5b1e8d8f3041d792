# S3DIS from scratch with Point Transformer V3: trained on five areas, tested on Area 5.
_base_ = ["../_base_/segmentor_ptv3.py", "../_base_/semseg_s3dis.py"]

model = dict(num_classes=13, backbone=dict(in_channels=6))

epoch = 3000
param_dicts = [dict(keyword="block", lr=0.0006)]
