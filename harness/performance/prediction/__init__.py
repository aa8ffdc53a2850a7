"""How much GPU memory a training step will take, predicted without a GPU: docs/performance.md#memory-prediction.

What `harness.worker.record.memory_profile` saw of a model with few blocks is read (`recording`), carried to another
batch
(`batches`) and to the full depth (`depth`), joined to whole training steps (`training`), counted (`account`) and put
through the rules of CUDA's caching allocator (`allocator`).
"""
