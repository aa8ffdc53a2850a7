"""What runs within one release: standard library, torch, numpy, funasr, and nothing of the outside."""
