"""The metrics of a report as functions of how often each row counts: for bootstraps and slices, many at a time.

Each task keeps, of every row, the numbers that its metrics are made of; weights multiply and add them up. All arrays of
a block have the weightings last: weights are [N, r], counts of labels [L, r], metrics [r]. For whole weights the counts
are exact. `bertjax.metrics` evaluates the plain rows with scikit-learn and seqeval; the tests hold both equal.
"""
