"""What the training will do and what it needs: steps, checkpoints, memory."""
