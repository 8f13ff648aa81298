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
decoding       constrained and unconstrained search for items, beam search for sentences
metrics        ranking and text metrics with bootstrap intervals
baselines      the models that VIP5 is compared with
evaluation     rank, compare, detect leaks, write the results
reporting      the model page and the plots
serving        one recommendation request and the promoted model

Annotations such as `Float[Tensor, "B S D"]` name the type of the values and the axes of a tensor or an array. A name
has one size within a call; `#B` is B or 1. The tests check them (tests/type_checks.py).
Axes: B rows of a batch, S source tokens, T target tokens, P photos of a row, F width of a feature, V vocabulary,
D width of the model, H heads, W width of a head, Q queries of attention, I items, U users, K ranked items of a row,
C candidates of a row, E edges of a prefix tree, L nodes of a path, R rows of a ragged array, N and M anything else.
"""
