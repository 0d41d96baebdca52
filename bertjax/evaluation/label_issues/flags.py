"""What is asked about labels, and the file of the answer; cheap to import."""

from dataclasses import dataclass

LABEL_ISSUES = "label_issues.jsonl"


@dataclass(frozen=True)
class LabelIssueFlags:
    """What is asked about labels."""

    label_issues: bool = False
    """Look for labels that are wrong, by confident learning: a ranked table with what the model says instead, copies of
    a text with different labels, and texts unlike all others. For rows that the model was not trained on; bertjax
    label-issues looks at training rows."""
