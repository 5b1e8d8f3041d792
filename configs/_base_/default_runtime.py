# What all experiments share. A config overrides what it needs; the meaning of each key is in docs/configs.md.
weight = None
resume = False
evaluate = True
seed = 0
save_path = "exp/default"

num_worker = 2  # data loading processes of the whole job
batch_size = 16  # over all processes, as are the following
batch_size_val = None  # None: one per process
gradient_accumulation_steps = 1

epoch = 100  # passes over the data
eval_epoch = 100  # reported epochs: how often to evaluate and save

clip_grad = None
sync_bn = False
enable_amp = False
amp_dtype = "bfloat16"
find_unused_parameters = False
mix_prob = 0.0
param_dicts = None
test = None  # no final evaluation
