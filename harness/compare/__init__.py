"""One release or commit compared with another: diagnosis, transitions, drift, the gate."""
