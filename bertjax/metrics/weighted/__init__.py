"""The metrics of a report as functions of row weights, vectorised over many weightings, for bootstraps and slices.

Each task keeps the per-row numbers that its metrics are sums of, and multiplies them by weights. The weightings are the
last axis of all arrays: weights are [N, r], counts of labels [L, r], metrics [r]. For integer weights the counts are
exact. `bertjax.metrics` computes the unweighted metrics with scikit-learn and seqeval; tests hold both equal.
"""
