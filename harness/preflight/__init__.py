"""Will a user's own fine-tune work? Findings about a model folder, a jsonl, a `finetune.sh`, a release and a card."""
