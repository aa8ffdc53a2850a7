"""What runs within one release's process: standard library, torch, numpy and funasr; nothing from the outside."""
