"""A change compared with the release that it is based on, cell by cell."""
