"""A run on several machines by Ray: batches of cells, what runs on a node, and who follows them."""
