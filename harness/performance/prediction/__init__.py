"""How much GPU memory a training step will take, told without a GPU: see docs/estimate.md.

What `harness.worker.record.memory_profile` saw of a model with few blocks is read (`recording`), carried to another
batch
(`batches`) and to the full depth (`depth`), joined to whole training steps (`training`), counted (`account`) and put
through the rules of CUDA's caching allocator (`allocator`).
"""
