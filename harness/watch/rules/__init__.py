"""What can be wrong with a training that runs, each rule a function of the state; reports/watch_rules.md has the table.

A rule is called again and again while the training runs, and once when it has ended. It states only what the records
show: expectations come from the configuration in force, never from a default.
"""
