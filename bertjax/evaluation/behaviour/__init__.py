"""Behavioural tests of a model: expected answers to given texts, and changes that must, or must not, change an answer.

Source: Ribeiro, Wu, Guestrin, Singh, "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList" (ACL 2020): its
three kinds of checks, its templates, and its named perturbations.

`behaviour_file` reads checks, `cases` makes their texts, `judge_answers` compares the model's answers, and
`behaviour_report` shows what came out; `check_behaviour` is all of it.
"""
