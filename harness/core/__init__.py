"""What every part shares: cells, outcomes, errors, versions, numbers, and files that outlive a kill."""
