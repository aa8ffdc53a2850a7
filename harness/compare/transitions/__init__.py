"""Every transition between one answer and another, over the published releases or over the commits between two of them.

`search` says what is to be asked next, `answers` what counts as an answer, `known` which answers are on record,
`asking` asks a release, `git` and `commits` lay out commits in a release's place, `finding` strings them together.
"""
