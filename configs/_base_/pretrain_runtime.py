# How all rendering pre-trainings are optimized.
_base_ = ["./default_runtime.py"]

optimizer = dict(type="AdamW", lr=2e-3, weight_decay=0.01)
scheduler = dict(type="OneCycleLR", max_lr=2e-3, pct_start=0.1, div_factor=10.0, final_div_factor=100.0)
clip_grad = 10.0
sync_bn = True  # so that several processes train like one
