"""`preflight --dry-run`: the release's own trainer takes a few steps on the user's rows."""
