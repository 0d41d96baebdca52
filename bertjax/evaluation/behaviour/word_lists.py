"""The English words that perturbations know."""

# A name is replaced by another of its own line, so that pronouns still fit; none of them is also a word or a place.
FIRST_NAMES = (
    ("Alice", "Anna", "Clara", "Elena", "Emma", "Fatima", "Ingrid", "Julia", "Keiko", "Laura", "Maria", "Mei", "Nadia",
     "Olivia", "Priya", "Sarah", "Sofia", "Susan", "Yasmin", "Zoe"),
    ("Ahmed", "Andrew", "Carlos", "David", "Dmitri", "Erik", "Hassan", "Hiroshi", "James", "Jamal", "John", "Kevin",
     "Lukas", "Michael", "Omar", "Paul", "Peter", "Rahul", "Thomas", "Wei"),
)  # fmt: skip

AUXILIARIES = (
    "am", "is", "are", "was", "were", "do", "does", "did", "has", "have", "had", "can", "could", "will", "would",
    "shall", "should", "may", "might", "must",
)  # fmt: skip

# Auxiliary -> its negation in one word.
NEGATED = {
    "is": "isn't", "are": "aren't", "was": "wasn't", "were": "weren't", "do": "don't", "does": "doesn't",
    "did": "didn't", "has": "hasn't", "have": "haven't", "had": "hadn't", "can": "can't", "could": "couldn't",
    "will": "won't", "would": "wouldn't", "should": "shouldn't", "must": "mustn't",
}  # fmt: skip

# Two words -> one.
CONTRACTIONS = {
    **{f"{auxiliary} not": negated for auxiliary, negated in NEGATED.items()},
    "cannot": "can't",
    **{f"{subject} is": f"{subject}'s" for subject in ("it", "he", "she", "that", "there", "what", "who", "where")},
    **{f"{subject} are": f"{subject}'re" for subject in ("we", "you", "they")},
    **{f"{subject} will": f"{subject}'ll" for subject in ("i", "you", "he", "she", "it", "we", "they")},
    **{f"{subject} have": f"{subject}'ve" for subject in ("i", "you", "we", "they")},
    "i am": "i'm",
    "let us": "let's",
}  # fmt: skip

NEUTRAL_SENTENCES = (
    "This was written on a weekday.",
    "The line above has a line below.",
    "Here is one more sentence.",
    "The window is open.",
    "There is a clock on the wall.",
)
