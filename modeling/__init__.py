"""Tables to scores: VIP5, its training, its evaluation and what it recommends.

Stages: pretrain, train, evaluate, model_report. Commands: repeat, recommend, recommend_all, summary.
Rooms, in data order:

config         parameter classes; nothing here imports torch
runtime        devices, processes, memory, random state
data           tokenizer, prompt dataset, batching, user histories
collaborative  closed-form collaborative filtering: EASE, spectral embeddings
kernels        fused modules and gradients for T5
models         VIP5, T5, adapters, loss, initialisation, checkpoints
training       loop, optimizer, distillation, validation, resuming
decoding       constrained and unconstrained search for items
metrics        ranking and text metrics with bootstrap intervals
baselines      the models that VIP5 is compared with
evaluation     rank, compare, detect leaks, write the results
reporting      the model page and the plots
serving        one recommendation request and the promoted model
"""
