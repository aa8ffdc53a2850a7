"""What a training takes: baselines of a machine, and the prediction of GPU memory."""
