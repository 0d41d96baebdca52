"""Behavioural tests of a model: what it must say of given texts, and what must not, or must, change its answer.

Source: Ribeiro, Wu, Guestrin, Singh, "Beyond Accuracy: Behavioral Testing of NLP Models with CheckList" (ACL 2020), of
which the three kinds of checks, templates and perturbations by name are taken.

`behaviour_file` reads checks, `cases` makes their texts, `judge_answers` compares the model's answers, and
`behaviour_report` shows what came out; `check_behaviour` is all of it.
"""
