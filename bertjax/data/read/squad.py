"""SQuAD's own JSON: articles, their paragraphs, and the questions on each (Rajpurkar et al. 2016, 2018)."""

from collections.abc import Iterator, Mapping
from typing import Any


def is_squad(content: Any) -> bool:
    """Whether a JSON value has the layout of SQuAD."""
    articles = content.get("data") if isinstance(content, dict) else None
    return (
        isinstance(articles, list)
        and bool(articles)
        and all(isinstance(article, dict) and isinstance(article.get("paragraphs"), list) for article in articles)
    )


def squad_records(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A record for each question, None for missing values. Plausible answers of version 2.0 are not answers."""
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph.get("qas", []):
                yield {
                    "id": question.get("id"),
                    "title": article.get("title"),
                    "context": paragraph.get("context"),
                    "question": question.get("question"),
                    "answers": [] if question.get("is_impossible") else question.get("answers"),
                }
